//! Devices that fill up: read-only before it is too late, and back when there is room.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::json;

use crate::faulty::{Fate, Faults};
use crate::world::{MESSAGES, Region, World, answer, client, converged, eventually, message, text};

const MIB: u64 = 1 << 20;

/// Far more free bytes than any reserve.
const PLENTY: u64 = 1 << 40;

async fn readiness(region: &Region) -> String {
    let ready = answer(client().get(region.url("/readyz"))).await;
    format!("{} {}", ready.status.as_u16(), text(&ready.body))
}

async fn is_read_only(region: &Region) -> bool {
    readiness(region).await.starts_with("200 ready, but read-only")
}

#[tokio::test(flavor = "multi_thread")]
async fn with_little_room_a_node_is_read_only_and_says_so_until_there_is_room_again() {
    let world = World::of(&["eu-west"]);
    let faults = Arc::new(Faults::default());
    let europe = world.start_with("eu-west", &faults).await;
    europe.create("general").await;
    europe.say("one").await;
    let reserve = world.root.path().join("eu-west/reserve");
    eventually(64 * MIB, async || std::fs::metadata(&reserve).map_or(0, |file| file.len())).await;

    faults.claim_free(Some(63 * MIB));
    eventually(true, async || is_read_only(&europe).await).await;
    let refused = europe.post(MESSAGES, &message("two")).await;
    refused.refuses(507, "no-room");
    assert_eq!(refused.retry_after.as_deref(), Some("10"));
    let detail = text(&refused.body["detail"]);
    assert!(detail.contains("63 MiB are free") && detail.contains("96 MiB are needed"), "{detail}");
    europe.post("/conversations", &json!({"name": "another"})).await.refuses(507, "no-room");
    assert_eq!(europe.bodies().await, ["one"]);
    let status = europe.status().await;
    assert_eq!(status["takes_writes"], false);
    assert_eq!(status["disk_free_bytes"], 63 * MIB);
    assert!(text(&status["alarms"][0]).starts_with("the node is read-only: 63 MiB"), "{status}");

    faults.claim_free(Some(PLENTY));
    eventually("200 ready".to_owned(), async || readiness(&europe).await).await;
    europe.say("two").await;
    assert_eq!(europe.bodies().await, ["one", "two"]);
    assert_eq!(europe.status().await["node"]["run"], 1, "nothing had failed");
    assert!(reserve.exists(), "it was not needed");
    europe.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_node_takes_nothing_in_and_sends_what_it_holds() {
    let world = World::of(&["eu-west", "us-east"]);
    let faults = Arc::new(Faults::default());
    let europe = world.start_with("eu-west", &faults).await;
    let america = world.start("us-east").await;
    europe.create("general").await;
    europe.say("one").await;
    converged(&[&europe, &america]).await;
    america.node.shutdown().await;
    europe.say("two").await;
    faults.claim_free(Some(1));
    eventually(true, async || is_read_only(&europe).await).await;

    let america = world.start("us-east").await;
    eventually(vec!["one".to_owned(), "two".to_owned()], async || america.bodies().await).await;
    america.say("three").await;
    // Its origin and the message. A peer that takes entries in asks for them at a heartbeat.
    let peer = async |field: &str| america.status().await["peers"][0][field].clone();
    eventually(2.into(), async || peer("entries_behind").await).await;
    for _heartbeat in 0..2 {
        let heard = peer("received_bytes").await;
        eventually(true, async || peer("received_bytes").await != heard).await;
    }
    assert_eq!(europe.bodies().await, ["one", "two"]);
    assert_eq!(peer("entries_behind").await, 2);
    assert_eq!(peer("connected").await, true);

    faults.claim_free(Some(PLENTY));
    converged(&[&europe, &america]).await;
    assert_eq!(europe.bodies().await, ["one", "two", "three"]);
    europe.node.shutdown().await;
    america.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_without_room_gives_the_reserve_up_and_room_brings_it_back() {
    let world = World::of(&["eu-west"]);
    let faults = Arc::new(Faults::default());
    let europe = world.start_with("eu-west", &faults).await;
    europe.create("general").await;
    let reserve = world.root.path().join("eu-west/reserve");
    eventually(true, async || reserve.exists()).await;

    faults.fail_next(Fate::NoRoom);
    faults.claim_free(Some(65 * MIB));
    europe.post(MESSAGES, &message("one")).await.refuses(500, "outcome-unknown");
    eventually(true, async || is_read_only(&europe).await).await;
    assert!(!reserve.exists());
    assert_eq!(europe.status().await["node"]["run"], 2);

    faults.claim_free(Some(PLENTY));
    eventually("200 ready".to_owned(), async || readiness(&europe).await).await;
    assert!(reserve.exists());
    europe.say("one").await;
    assert_eq!(europe.bodies().await, ["one"]);
    europe.node.shutdown().await;
}

/// What failed behind the scenes for want of room would fail the first write after it.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_suffered_without_room_is_opened_again_before_writers_come_back() {
    let world = World::of(&["eu-west"]);
    let faults = Arc::new(Faults::default());
    let europe = world.start_with("eu-west", &faults).await;
    europe.create("general").await;
    faults.claim_free(Some(1));
    eventually(true, async || is_read_only(&europe).await).await;
    faults.make_unsound();
    let looks = faults.looks();
    eventually(true, async || faults.looks() > looks + 1).await;
    assert_eq!(faults.opened(), 1, "it reads well, and cannot be better without room");

    faults.claim_free(Some(PLENTY));
    eventually("200 ready".to_owned(), async || readiness(&europe).await).await;
    assert_eq!(faults.opened(), 2);
    europe.say("one").await;
    faults.make_unsound();
    eventually(3, async || europe.status().await["node"]["run"].as_u64().unwrap_or(0)).await;
    europe.node.shutdown().await;
}

/// A small file system in place of a node's data directory, unmounted at the end.
struct Device<'a>(&'a Path);

impl<'a> Device<'a> {
    /// None, with a word about it, where this process may not mount.
    #[expect(clippy::print_stderr, reason = "a test that is skipped must be seen to be")]
    fn over(directory: &'a Path, mib: u64) -> Option<Self> {
        let kept = directory.with_extension("kept");
        std::fs::rename(directory, &kept).expect("moved away");
        std::fs::create_dir(directory).expect("made");
        let size = format!("size={mib}m");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "warbler-test"])
            .arg(directory)
            .output();
        let mounted = mount.as_ref().is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("SKIPPED: a test of a full device, which cannot be mounted here: {mount:?}");
            return None;
        }
        for entry in std::fs::read_dir(&kept).expect("read") {
            let entry = entry.expect("an entry");
            std::fs::copy(entry.path(), directory.join(entry.file_name())).expect("copied");
        }
        Some(Self(directory))
    }

    fn free(&self) -> u64 {
        let found = rustix::fs::statvfs(self.0).expect("the room");
        found.f_bavail * found.f_frsize
    }

    /// Takes all room but about `left` bytes.
    fn fill_but(&self, left: u64) {
        let bytes = usize::try_from(self.free().saturating_sub(left)).expect("small");
        std::fs::write(self.0.join("filler"), vec![0; bytes]).expect("filled");
    }
}

impl Drop for Device<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_real_device_that_fills_up_nothing_acknowledged_is_lost_and_writing_comes_back() {
    let world = World::of(&["eu-west"]);
    let directory = world.root.path().join("eu-west");
    let Some(device) = Device::over(&directory, 512) else { return };
    let europe = world.start("eu-west").await;
    europe.create("general").await;
    let body = |number: usize| format!("{number} {}", noise(number));
    let mut kept = Vec::new();
    // Early: the node turns read-only while there is room left.
    device.fill_but(160 * MIB);
    let mut refused = 0;
    for number in 0..5_000 {
        let said = europe.post(MESSAGES, &message(&body(number))).await;
        match said.status.as_u16() {
            201 => kept.push(body(number)),
            507 => refused += 1,
            other => panic!("{other}: {said:?}"),
        }
        if refused > 0 {
            break;
        }
    }
    assert!(refused > 0 && !kept.is_empty(), "{} were kept", kept.len());
    assert!(device.free() > 0);
    assert_eq!(europe.status().await["node"]["run"], 1, "no write failed");
    assert_holds(&europe, &kept).await;

    // At once: somebody else takes the last byte.
    std::fs::remove_file(directory.join("filler")).expect("removed");
    eventually("200 ready".to_owned(), async || readiness(&europe).await).await;
    device.fill_but(0);
    eventually(true, async || is_read_only(&europe).await).await;
    assert_holds(&europe, &kept).await;
    std::fs::remove_file(directory.join("filler")).expect("removed");
    eventually("200 ready".to_owned(), async || readiness(&europe).await).await;
    europe.say("there is room").await;
    kept.push("there is room".to_owned());
    assert_holds(&europe, &kept).await;
    europe.node.shutdown().await;

    // A start without any room: the reserve is given up for it.
    std::fs::write(directory.join("filler"), b"").expect("written");
    device.fill_but(0);
    let again = world.start("eu-west").await;
    assert_holds(&again, &kept).await;
    eventually(true, async || is_read_only(&again).await).await;
    std::fs::remove_file(directory.join("filler")).expect("removed");
    eventually("200 ready".to_owned(), async || readiness(&again).await).await;
    again.say("and again").await;
    again.node.shutdown().await;
}

fn noise(number: usize) -> String {
    let mut bytes = [0; 16_000];
    let mut stream = warbler_store::entropy::Entropy::from_seed(
        [u8::try_from(number % 251).expect("small"); 32],
    );
    bytes.chunks_mut(32).for_each(|chunk| chunk.copy_from_slice(&stream.bytes::<32>()));
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Expects every message, the newest five hundred of them.
async fn assert_holds(region: &Region, kept: &[String]) {
    let bodies = region.bodies().await;
    let newest = &kept[kept.len().saturating_sub(500)..];
    assert!(bodies == newest, "{} held, {} expected", bodies.len(), newest.len());
}
