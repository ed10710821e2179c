//! The client library against three real regions, one of which is killed in the middle of a burst.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use warbler_client::{
    Client, Follow, Followed, Happening, NewMessage, PageAt, Patience, Space, Wait,
};

use crate::process::{Running, warbler};

const REGIONS: [&str; 3] = ["eu-west", "us-east", "ap-south"];
/// How long anything may take; far more than it does.
const DEADLINE: Duration = Duration::from_secs(40);
const POSTS: usize = 150;

/// Three regions as processes of their own.
struct Regions {
    root: TempDir,
    running: BTreeMap<&'static str, (Running, String)>,
}

impl Regions {
    fn start() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        // All are held until each has its port, so that no two get the same.
        let held: Vec<_> =
            REGIONS.iter().map(|_| UdpSocket::bind("127.0.0.1:0").expect("a free port")).collect();
        let mut cluster = "version = 1\n".to_owned();
        for (region, socket) in REGIONS.iter().zip(&held) {
            let (path, name) = (root.path().join(region), format!("{region}-1"));
            let listen = socket.local_addr().expect("bound").to_string();
            let made = warbler(&[
                "init",
                "--data-dir",
                path.to_str().expect("UTF-8"),
                "--name",
                &name,
                "--region",
                region,
                "--listen",
                &listen,
                "--http",
                "127.0.0.1:0",
            ]);
            assert_eq!(made.code, Some(0), "{}", made.stderr);
            cluster += &made.stdout;
        }
        cluster += &format!("[[space]]\nname = \"main\"\nregions = {REGIONS:?}\n");
        fs::write(root.path().join("cluster.toml"), cluster).expect("written");
        drop(held);
        let mut regions = Self { root, running: BTreeMap::new() };
        REGIONS.iter().for_each(|region| regions.serve(region, "127.0.0.1:0"));
        regions
    }

    fn path(&self, region: &str) -> PathBuf {
        self.root.path().join(region)
    }

    fn serve(&mut self, region: &'static str, http: &str) {
        let path = self.path(region);
        let args = ["serve", "--json", "--config", path.to_str().expect("UTF-8")];
        let node = Running::start_with(&args, &[("WARBLER_HTTP_LISTEN", http)]);
        let ready: Value = serde_json::from_str(&node.line()).expect("JSON");
        let url = ready["http"].as_str().expect("a URL").to_owned();
        self.running.insert(region, (node, url));
    }

    fn url(&self, region: &str) -> String {
        self.running[region].1.clone()
    }

    /// Kills a region; gives the address at which it is to come back.
    fn kill(&mut self, region: &str) -> String {
        let (node, url) = self.running.remove(region).expect("it runs");
        assert_eq!(node.stop("KILL").code, None, "ended by the signal");
        url.trim_start_matches("http://").to_owned()
    }

    /// What a region shows of `general`, oldest first, without a session.
    async fn shown(&self, region: &str) -> Vec<String> {
        let client = Client::new(&self.url(region), None).expect("a client");
        let space = client.space("main").without_session();
        let mut pages = Vec::new();
        let mut at = PageAt::End;
        loop {
            let page = space.page("general", &at, 100).await.expect("a page");
            pages.push(page.messages);
            match page.before {
                Some(before) => at = PageAt::Before(before),
                None => break,
            }
        }
        pages.into_iter().rev().flatten().map(|message| message.body).collect()
    }

    async fn converged(&self) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let mut shown = Vec::new();
            for region in REGIONS {
                shown.push(self.shown(region).await);
            }
            if shown.iter().all(|one| *one == shown[0] && one.len() == POSTS) {
                return shown.swap_remove(0);
            }
            let counts: Vec<_> = shown.iter().map(Vec::len).collect();
            assert!(begun.elapsed() < DEADLINE, "{counts:?} messages are shown");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A client whose home is `eu-west`.
fn space_of(regions: &Regions, behind: Duration) -> Space {
    let patience = Patience { answer: Duration::from_secs(5), behind, ..Patience::default() };
    let builder = Client::builder().regions(REGIONS.map(|region| regions.url(region)));
    builder.patience(patience).adopt(true).build().expect("a client").space("main")
}

async fn say(space: &Space, number: usize, wait: &Wait) {
    let body = format!("message {number}");
    let message = NewMessage { body: &body, author: "ann", ..NewMessage::default() };
    let key = format!("burst-{number}");
    space.post("general", &message, &key, wait).await.expect("some region takes it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_loses_its_region_in_a_burst_ends_with_each_message_once_in_order_everywhere()
{
    let mut regions = Regions::start();
    let begun = Instant::now();
    let tell = |text: String| println!("{:6.2} s  {text}", begun.elapsed().as_secs_f64());
    let space = space_of(&regions, Duration::from_secs(1));
    space.create("general").await.expect("created");
    let mut follow = space.follow(&["general"], None).await.expect("a stream");
    let home = space.client().region();
    tell(format!("{POSTS} posts begin in eu-west at {home}, one after another"));

    let posting = {
        let space = space.clone();
        tokio::spawn(async move {
            for number in 0..POSTS {
                say(&space, number, &Wait::default()).await;
                // So that the kill falls into the burst and not behind it.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    // The region is killed once a third of the burst has been heard of.
    let last = format!("message {}", POSTS - 1);
    let mut heard: Vec<String> = Vec::new();
    let mut address = None;
    while heard.last() != Some(&last) {
        let Some(body) = next_body(&mut follow, &tell).await else { continue };
        heard.push(body);
        if heard.len() == POSTS / 3 {
            address = Some(regions.kill("eu-west"));
            tell(format!("kill -9: eu-west is gone after {} messages", heard.len()));
        }
    }
    posting.await.expect("no panic");
    tell(format!("all {POSTS} are acknowledged, the last at {}", space.client().region()));
    for adopted in space.session().expect("a session").take_adopted() {
        tell(format!("given up for a while: {:?} at {}", adopted.missing, adopted.region));
    }
    assert_ne!(space.client().region(), home, "it went elsewhere");
    regions.serve("eu-west", &address.expect("it was killed"));
    tell("eu-west is back, under a new origin".to_owned());

    let shown = regions.converged().await;
    let expected: Vec<String> = (0..POSTS).map(|number| format!("message {number}")).collect();
    assert_eq!(shown, expected, "each once, in order, in all regions");
    tell(format!("all three regions show all {POSTS}, each once, in order"));
    while heard.iter().collect::<BTreeSet<_>>().len() < POSTS {
        heard.extend(next_body(&mut follow, &tell).await);
    }
    tell(format!("the follower heard all {POSTS}, in {} messages", heard.len()));
}

/// The words of the next message, if that is what happens next.
async fn next_body(follow: &mut Follow, tell: &impl Fn(String)) -> Option<String> {
    let next = tokio::time::timeout(DEADLINE, follow.next()).await.expect("in time");
    match next.expect("the follower goes on") {
        Happening::Arrived(Followed::Message { message, .. }) => return Some(message.body),
        Happening::Lost { why, .. } => tell(format!("the follower lost its stream: {why}")),
        Happening::Resumed { region } => tell(format!("the follower goes on at {region}")),
        Happening::Adopted(adopted) => tell(format!("the follower knows more: {adopted:?}")),
        Happening::Arrived(_) => {}
        Happening::Gap => panic!("no log was trimmed"),
    }
    None
}
