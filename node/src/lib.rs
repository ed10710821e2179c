pub mod config;
pub mod data_directory;
pub mod identity;
pub mod transport;
