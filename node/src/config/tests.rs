//! What `warbler.toml` and the environment may say.

use std::path::Path;

use super::*;

fn parse_with(text: &str, set: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = |variable: &str| {
        set.iter().find(|(name, _)| *name == variable).map(|(_, value)| (*value).to_owned())
    };
    Config::parse(Path::new("/var/lib/warbler/warbler.toml"), text, &environment)
}

fn refusal(text: &str) -> String {
    parse_with(text, &[]).expect_err("refused").to_string()
}

#[test]
fn the_commented_defaults_say_what_leaving_everything_out_means() {
    let commented = parse_with(DEFAULT_TOML, &[]).expect("the defaults");
    let bare = parse_with("name = \"node-1\"", &[]).expect("a name only");
    assert_eq!(commented, bare);
    assert_eq!(bare.data_dir, Path::new("/var/lib/warbler"));
    assert_eq!(bare.cluster, Path::new("/var/lib/warbler/../cluster.toml"));
    assert_eq!(bare.quic.listen.to_string(), "127.0.0.1:7421");
    assert_eq!(bare.http.listen.to_string(), "127.0.0.1:7420");
    assert_eq!(bare.store.reserve, Size(64 << 20));
    assert_eq!(bare.erasure.within, Duration::from_secs(3_600));
    assert_eq!(bare.log, LogConfig { trim: false, keep: Duration::from_secs(3_600) });
}

#[test]
fn spans_of_time_are_read_and_refused_by_name() {
    let text = "name = \"a\"\n[erasure]\nwithin = \"90s\"\n[log]\ntrim = true\nkeep = \"7d\"\n";
    let config = parse_with(text, &[]).expect("valid");
    assert_eq!(config.erasure.within, Duration::from_secs(90));
    assert_eq!(config.log, LogConfig { trim: true, keep: Duration::from_secs(7 * 86_400) });
    let error = refusal("name = \"a\"\n[erasure]\nwithin = \"soon\"\n");
    assert!(error.contains(":3: `erasure.within`: `soon` is not a span of time"), "{error}");
}

#[test]
fn memory_is_bounded_by_three_sizes_and_not_so_low_that_nothing_works() {
    let text = "name = \"a\"\n[memory]\ncache = \"1GiB\"\ndocuments = \"8MiB\"\n";
    let memory = parse_with(text, &[]).expect("sizes").memory;
    let (cache, write_buffers, documents) = (Size(1 << 30), Size(64 << 20), Size(8 << 20));
    assert_eq!(memory, MemoryConfig { cache, write_buffers, documents });
    let engine = Memory { cache: 1 << 30, write_buffers: 64 << 20 };
    assert_eq!(memory.engine(), engine, "the store is opened with them");
    let error = refusal("name = \"a\"\n[memory]\nwrite_buffers = \"7MiB\"\n");
    assert!(error.contains(":3: `memory.write_buffers`: 7MiB is too little"), "{error}");
}

#[test]
fn the_reserve_is_a_size() {
    let config = parse_with("name = \"a\"\n[store]\nreserve = \"1GiB\"\n", &[]).expect("a size");
    assert_eq!(config.store.reserve, Size(1 << 30));
    let error = refusal("name = \"a\"\n[store]\nreserve = \"much\"\n");
    assert!(error.contains(":3: `store.reserve`: `much` is not a size"), "{error}");
    let error = refusal("name = \"a\"\n[store]\nrezerve = \"1GiB\"\n");
    assert!(error.contains(":3: unknown field `rezerve`"), "{error}");
}

#[test]
fn what_init_writes_reads_as_what_it_was_given() {
    let name: Name = "a \"quoted\" näme".parse().expect("a name");
    let [quic, http] = ["[::]:1", "127.0.0.1:7421"].map(|text| text.parse().expect("an address"));
    let text = Config::commented_toml(&name, quic, http);
    let config = parse_with(&text, &[]).expect("own text");
    assert_eq!((config.name, config.quic.listen, config.http.listen), (name, quic, http));
    assert_eq!(text.lines().count(), DEFAULT_TOML.lines().count());
}

#[test]
fn variables_override_the_file() {
    let set = [
        (QUIC_LISTEN_VARIABLE, "0.0.0.0:1"),
        (HTTP_LISTEN_VARIABLE, "localhost:2"),
        (CLUSTER_VARIABLE, "/etc/cluster.toml"),
    ];
    let config = parse_with(DEFAULT_TOML, &set).expect("overridden");
    assert_eq!(config.quic.listen.to_string(), "0.0.0.0:1");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:2");
    assert_eq!(config.cluster, Path::new("/etc/cluster.toml"));
}

#[test]
fn an_unknown_field_is_refused_with_file_line_and_field() {
    let error = refusal("name = \"a\"\n\n[quic]\nlissen = \"127.0.0.1:1\"\n");
    assert!(
        error.starts_with("/var/lib/warbler/warbler.toml:4: unknown field `lissen`"),
        "{error}"
    );
    let error = refusal("name = \"a\"\n[auth]\nkeys = []\n");
    assert!(error.contains(":2: unknown field `auth`"), "{error}");
}

#[test]
fn a_value_of_another_type_and_a_missing_one_are_refused_by_name() {
    let error = refusal("# a comment\nname = 3\n");
    assert!(error.contains(":2: `name`: invalid type: integer `3`"), "{error}");
    assert!(refusal("[quic]\n").contains("missing field `name`"));
    assert!(refusal("name = \"a\"\nname = \"b\"\n").contains("warbler.toml:2: "));
    assert!(refusal("name = \"a\"\n\n?\n").contains("warbler.toml:3: "));
    assert!(refusal("name = \"a/b\"").contains(":1: `name`: a name may not hold '/'"));
}

#[test]
fn the_api_is_refused_on_an_address_that_others_reach() {
    let error = refusal("name = \"a\"\n[http]\nlisten = \"0.0.0.0:7420\"\n");
    assert!(error.contains(":3: `http.listen`: 0.0.0.0:7420 is not a loopback address"), "{error}");
    assert!(error.contains("no token keys"), "{error}");

    let set = [(HTTP_LISTEN_VARIABLE, "192.0.2.1:7420")];
    let error = parse_with(DEFAULT_TOML, &set).expect_err("refused").to_string();
    assert!(
        error.starts_with("the environment variable WARBLER_HTTP_LISTEN: 192.0.2.1"),
        "{error}"
    );
}

#[test]
fn an_address_to_listen_on_needs_an_ip_address_and_a_port() {
    for listen in ["example.org:7421", "127.0.0.1", "localhost:", "7421"] {
        let error = refusal(&format!("name = \"a\"\n[quic]\nlisten = \"{listen}\"\n"));
        assert!(error.contains(&format!("`quic.listen`: `{listen}` is not an address")), "{error}");
    }
}

#[test]
fn a_missing_file_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("warbler.toml");
    let error = Config::load(&path).expect_err("missing");
    assert!(matches!(&error, ConfigError::Read { path: named, .. } if *named == path), "{error}");
    std::fs::write(&path, [b'#'; MAX_FILE_BYTES as usize + 1]).expect("written");
    assert!(matches!(Config::load(&path), Err(ConfigError::TooLong { .. })));
}
