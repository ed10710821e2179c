//! What a cluster file may say.

use super::*;

const THREE_REGIONS: &str = r#"version = 3

[[node]]
name = "eu-1"
region = "eu-west"
cloud = "aws"
address = "127.0.0.1:7421"
id = "1111111111111111111111111111111111111111111111111111111111111111"

[[node]]
name = "us-1"
region = "us-east"
address = "us-1.example.org:7421"
id = "2222222222222222222222222222222222222222222222222222222222222222"

[[node]]
name = "ap-1"
region = "ap-south"
address = "[2001:db8::1]:7421"
id = "3333333333333333333333333333333333333333333333333333333333333333"

[[space]]
name = "main"
regions = ["eu-west", "us-east", "ap-south"]

[[space]]
name = "bank"
regions = ["eu-west", "us-east"]
"#;

const EU: NodeId = NodeId([0x11; 32]);
const US: NodeId = NodeId([0x22; 32]);
const AP: NodeId = NodeId([0x33; 32]);

fn parse(text: &str) -> Result<Cluster, ConfigError> {
    Cluster::parse(Path::new("cluster.toml"), text)
}

fn refusal_of(from: &str, to: &str) -> String {
    assert!(THREE_REGIONS.contains(from), "{from} is not in the example");
    parse(&THREE_REGIONS.replacen(from, to, 1)).expect_err("refused").to_string()
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

#[test]
fn two_nodes_share_exactly_the_spaces_that_live_in_both_their_regions() {
    let cluster = parse(THREE_REGIONS).expect("valid");
    let [main, bank] = ["main", "bank"].map(|space| SpaceId::of(&name(space)));
    assert_eq!(cluster.version, 3);
    assert_eq!(cluster.shared_spaces(EU, US), [main, bank]);
    assert_eq!(cluster.shared_spaces(EU, AP), [main]);
    assert_eq!(cluster.shared_spaces(AP, US), [main]);
    assert_eq!(cluster.shared_spaces(AP, NodeId([4; 32])), []);
    assert_eq!(cluster.spaces_of(AP).len(), 1);
    assert_eq!(cluster.space(&name("bank")).expect("a space").regions.len(), 2);
}

#[test]
fn the_entry_of_a_node_reads_as_that_node() {
    let mut node = parse(THREE_REGIONS).expect("valid").nodes.remove(0);
    node.name = name("a \"quoted\" name");
    let text = format!(
        "version = 1\n{}[[space]]\nname = \"main\"\nregions = [\"eu-west\"]\n",
        node.entry()
    );
    assert_eq!(parse(&text).expect("own text").nodes, [node]);
}

#[test]
fn a_node_finds_itself_by_name_and_key_or_learns_what_differs() {
    let cluster = parse(THREE_REGIONS).expect("valid");
    assert_eq!(cluster.own_entry(&name("us-1"), US).expect("itself").region, name("us-east"));

    let other_name = cluster.own_entry(&name("us-2"), US).expect_err("another name");
    assert!(matches!(other_name, OwnEntryError::OtherName { .. }), "{other_name}");
    let other_key = cluster.own_entry(&name("us-1"), NodeId([9; 32])).expect_err("another key");
    assert!(matches!(other_key, OwnEntryError::OtherKey { .. }), "{other_key}");
    let missing = cluster.own_entry(&name("us-9"), NodeId([9; 32])).expect_err("missing");
    assert!(missing.to_string().contains("cluster.toml has no node with the id 0909"), "{missing}");
    assert!(missing.hint().contains("warbler init"));
}

#[test]
fn what_is_given_twice_is_refused_where_it_stands_the_second_time() {
    let error = refusal_of("name = \"us-1\"", "name = \"eu-1\"");
    assert_eq!(error, "cluster.toml:11: `node.name`: `eu-1` is given twice");
    let error = refusal_of(&"22".repeat(32), &"11".repeat(32));
    assert!(error.starts_with("cluster.toml:14: `node.id`: `1111"), "{error}");
    let error = refusal_of("us-1.example.org:7421", "127.0.0.1:7421");
    assert!(error.starts_with("cluster.toml:13: `node.address`"), "{error}");
    let error = refusal_of("name = \"bank\"", "name = \"main\"");
    assert_eq!(error, "cluster.toml:27: `space.name`: `main` is given twice");
    let error = refusal_of("[\"eu-west\", \"us-east\"]", "[\"eu-west\", \"eu-west\"]");
    assert!(error.contains("the region `eu-west` is named twice"), "{error}");
}

#[test]
fn values_that_cannot_be_are_refused_with_line_and_field() {
    for (from, to, expected) in [
        ("version = 3", "version = 0", ":1: `version`: versions begin at 1"),
        ("version = 3", "version = -1", ":1: `version`: invalid value"),
        ("version = 3", "", "missing field `version`"),
        ("eu-west", "eu/west", ":5: `node.region`: a name may not hold '/'"),
        ("cloud = \"aws\"", "cloud = \"\"", ":6: `node.cloud`: a name may not be empty"),
        ("cloud", "clod", ":6: unknown field `clod`"),
        ("127.0.0.1:7421", "127.0.0.1", ":7: `node.address`: `127.0.0.1` has no port"),
        ("127.0.0.1:7421", "0.0.0.0:7421", ":7: `node.address`: `0.0.0.0:7421` cannot be dialled"),
        ("1111\"", "111g\"", ":8: `node.id`: "),
        (
            "\"ap-south\"]",
            "\"ap-north\"]",
            ":24: `space.regions`: no node stands in the region `ap-north`",
        ),
        ("[\"eu-west\", \"us-east\"]", "[]", ":28: `space.regions`: a space needs a region"),
        ("[\"eu-west\", \"us-east\"]", "3", ":28: `regions`: invalid type"),
    ] {
        let error = refusal_of(from, to);
        assert!(error.contains(expected), "{to}: {error}");
    }
}

#[test]
fn a_cluster_without_a_space_is_refused() {
    let nodes_only = THREE_REGIONS.split("[[space]]").next().expect("the nodes");
    assert!(parse(nodes_only).expect_err("refused").to_string().contains("missing field `space`"));
    let empty = format!("space = []\n{nodes_only}");
    assert!(parse(&empty).expect_err("refused").to_string().contains("a cluster needs a space"));
}
