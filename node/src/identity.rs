//! The key of a node: an Ed25519 key pair, kept as PKCS#8 PEM, from which the node's id follows.
//!
//! It must not know of the cluster or the network. Its one invariant: the private key never
//! leaves this file but into its own key file (mode 0600) and the TLS signer.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::crypto::aws_lc_rs::sign::any_eddsa_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use warbler_store::id::NodeId;

/// What stands before the 32 secret bytes in the PKCS#8 form of an Ed25519 key (RFC 8410).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A key file is some 120 bytes; nothing longer than this, in bytes, is read.
const MAX_KEY_FILE_BYTES: u64 = 16 * 1024;

/// The permission bits that only others than the owner use.
const NOT_THE_OWNERS: u32 = 0o077;

/// A node's key pair and the id that follows from it.
pub struct Identity {
    pkcs8: Vec<u8>,
    signer: Arc<dyn SigningKey>,
    spki: Vec<u8>,
    id: NodeId,
}

/// Why a key cannot be made, saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The system gives no random bytes.
    #[error("no key can be made: the system gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// The file cannot be written.
    #[error("the key file {path} cannot be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file cannot be read.
    #[error("the key file {path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Others than its owner may use the file.
    #[error("the key file {path} has mode {mode:04o}: others than its owner can read it")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("the key file {path} does not hold an Ed25519 key in PKCS#8 PEM: {problem}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl IdentityError {
    /// What to do now, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exposed { path, .. } => {
                Some(format!("make it private: chmod 600 {}", path.display()))
            }
            Self::Invalid { .. } => Some(
                "restore the key from a backup, or give the node a new identity with `warbler init` \
                 in another directory"
                    .to_owned(),
            ),
            Self::Random(_) | Self::Write { .. } | Self::Read { .. } => None,
        }
    }
}

impl Identity {
    /// A new, random key.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn generate() -> Result<Self, IdentityError> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(IdentityError::Random)?;
        Ok(Self::from_secret(secret))
    }

    fn from_secret(secret: [u8; 32]) -> Self {
        let pkcs8 = [PKCS8_PREFIX.as_slice(), &secret].concat();
        Self::from_pkcs8(pkcs8).expect("any 32 bytes are an Ed25519 secret")
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Result<Self, String> {
        let der = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
        let signer = any_eddsa_type(&der).map_err(|error| error.to_string())?;
        let spki = signer.public_key().ok_or("it gives no public key")?.to_vec();
        let id = NodeId::of_public_key(&spki);
        Ok(Self { pkcs8, signer, spki, id })
    }

    /// Writes the key to a new file at `path` that only its owner may read, and flushes it.
    ///
    /// # Errors
    /// The file exists already, or cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            BASE64.encode(&self.pkcs8)
        );
        let write = || {
            let mut file =
                std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(pem.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|source| IdentityError::Write { path: path.to_owned(), source })
    }

    /// The key in the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read, others than its owner can read it, or it holds something else.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let read = || {
            let file = std::fs::File::open(path)?;
            let mode = file.metadata()?.permissions().mode() & 0o7777;
            let mut pem = Vec::new();
            file.take(MAX_KEY_FILE_BYTES).read_to_end(&mut pem)?;
            Ok((mode, pem))
        };
        let (mode, pem) =
            read().map_err(|source| IdentityError::Read { path: path.to_owned(), source })?;
        if mode & NOT_THE_OWNERS != 0 {
            return Err(IdentityError::Exposed { path: path.to_owned(), mode });
        }
        let invalid = |problem| IdentityError::Invalid { path: path.to_owned(), problem };
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|error| invalid(error.to_string()))?;
        Self::from_pkcs8(der.secret_pkcs8_der().to_vec()).map_err(invalid)
    }

    /// The node's id: BLAKE3 of the public key (DER SPKI).
    #[must_use]
    pub const fn node_id(&self) -> NodeId {
        self.id
    }

    /// The key as TLS takes it: the raw public key (RFC 7250) and its signer.
    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        let public = CertificateDer::from(self.spki.clone());
        Arc::new(CertifiedKey::new(vec![public], Arc::clone(&self.signer)))
    }

    /// A secret of the node's own for `purpose`, the same at every start.
    pub(crate) fn derive_secret(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, &self.pkcs8)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_key_comes_back_as_the_same_node_and_only_its_owner_may_read_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("node.key");
        let identity = Identity::generate().expect("a key");
        identity.save(&path).expect("saved");

        let mode = std::fs::metadata(&path).expect("a file").permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600);
        assert_eq!(Identity::load(&path).expect("loaded").node_id(), identity.node_id());
        assert!(matches!(identity.save(&path), Err(IdentityError::Write { .. })), "overwritten");
    }

    #[test]
    fn the_id_is_the_hash_of_the_public_key_of_rfc_8410() {
        let secret = "d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842";
        let secret: NodeId = secret.parse().expect("32 bytes in hex");
        let identity = Identity::from_secret(secret.0);

        // The public key that RFC 8410 gives for this private key, as DER SPKI.
        let public = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
        let public = BASE64.decode(public).expect("base 64");
        assert_eq!(identity.node_id(), NodeId::of_public_key(&public));
    }

    #[test]
    fn two_nodes_get_two_keys() {
        let ids = [0, 1].map(|_| Identity::generate().expect("a key").node_id());
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_way_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("node.key");
        Identity::generate().expect("a key").save(&path).expect("saved");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");

        let error = Identity::load(&path).expect_err("exposed");
        assert!(error.to_string().contains("0644"), "{error}");
        assert!(error.hint().expect("a hint").contains("chmod 600"));
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_by_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("node.key");
        assert!(matches!(Identity::load(&path), Err(IdentityError::Read { .. })));

        let not_a_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for text in ["", "hello", not_a_key] {
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
            let error = Identity::load(&path).expect_err("not a key");
            assert!(matches!(error, IdentityError::Invalid { .. }), "{error}");
            assert!(error.to_string().contains("node.key"), "{error}");
        }
    }
}
