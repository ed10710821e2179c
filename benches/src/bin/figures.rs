//! The figures that the store must reach, each beside its ceilings, in one run.
//!
//! `figures` prints all of them; `figures NAME …` those of these names: `append`, `apply`,
//! `million`, `memory`.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId, Automerge, ROOT, ScalarValue};
use rocksdb::{DB, Options, WriteBatch, WriteOptions};
use warbler_benches::pipeline::Pipeline;
use warbler_benches::raw;
use warbler_benches::workload::{BODY_BYTES, NOW, Workload, create_all, persist, replica, rocks};
use warbler_store::engine::{MemoryEngine, SharedEngine, Table};
use warbler_store::entry::{Entry, Parcel};
use warbler_store::id::SpaceId;
use warbler_store::reader::{Range, Reader};
use warbler_store::replica::{Built, Replica, Sealed};

/// Messages in one batch.
const BATCH: usize = 1024;
/// Conversations that the messages of a batch are spread over.
const CONVERSATIONS: usize = 256;
/// Batches that are measured.
const BATCHES: usize = 120;
/// Messages in a page.
const PAGE: usize = 50;
/// Pages that are read cold.
const COLD_PAGES: usize = 300;
/// Messages in the long conversation, and in many short ones.
const MILLION: usize = 1_000_000;
/// Memory for what is known of documents, in the bench of bounded memory: 64 MiB.
const CONVERSATIONS_OF_MEMORY: usize = 100_000;

fn main() -> Result<()> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|given| given == name);
    println!("fsync of 4 KiB alone: {:.0} a second", fsyncs_a_second()?);
    if wanted("append") {
        append()?;
    }
    if wanted("apply") {
        apply("apply, 16 messages an entry", 64)?;
        apply("apply, 1 message an entry", BATCH)?;
    }
    if wanted("million") {
        million()?;
    }
    if wanted("memory") {
        memory()?;
    }
    Ok(())
}

fn rate(messages: usize, took: Duration) -> f64 {
    messages as f64 / took.as_secs_f64()
}

fn fsyncs_a_second() -> Result<f64> {
    use std::io::Write;
    let directory = raw::directory()?;
    let mut file = std::fs::File::create(directory.path().join("probe"))?;
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < Duration::from_millis(500) {
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(rate(count, begun.elapsed()))
}

fn append() -> Result<()> {
    let directory = raw::directory()?;
    let mut workload = Workload::new(1, CONVERSATIONS)?;
    let engine = rocks(directory.path())?;
    let mut node = replica(Arc::clone(&engine), 1)?;
    create_all(&mut node, &workload)?;
    let batches: Vec<_> = (0..BATCHES).map(|_| workload.messages(BATCH)).collect();
    let mut rows = Vec::new();
    let mut pipeline = Pipeline::over(node, engine);
    let begun = Instant::now();
    for (number, batch) in batches.into_iter().enumerate() {
        for message in batch {
            pipeline.replica.post(NOW, message)?;
        }
        let sealed = pipeline.turn()?;
        if number % 4 == 0 {
            rows.push(sealed);
        }
    }
    pipeline.settle()?;
    let took = begun.elapsed();
    let waited = pipeline.waited;
    let (_, committing) = pipeline.end()?;
    let ours = rate(BATCHES * BATCH, took);
    let raw = raw_rate(&rows)?;
    let automerge = automerge_rate();
    println!(
        "append, batch {BATCH}, {CONVERSATIONS} conversations, {BODY_BYTES}-byte bodies, durable"
    );
    println!("  warbler          {ours:9.0} messages/s");
    println!("  raw RocksDB      {raw:9.0} messages/s, the same rows ({:.2} of it)", ours / raw);
    println!(
        "  Automerge alone  {automerge:9.0} messages/s, the same changes ({:.2} of it)",
        ours / automerge
    );
    println!(
        "  the replica built for {:.0} % of the time, the committer wrote for {:.0} %",
        100.0 * (took - waited).as_secs_f64() / took.as_secs_f64(),
        100.0 * committing.as_secs_f64() / took.as_secs_f64(),
    );
    Ok(())
}

/// RocksDB alone, with its defaults: the very rows of the batches, one write with one fsync each.
fn raw_rate(batches: &[Arc<Sealed>]) -> Result<f64> {
    let directory = raw::directory()?;
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let db = DB::open_cf(&options, directory.path(), Table::ALL.map(Table::name))?;
    let mut durable = WriteOptions::default();
    durable.set_sync(true);
    let rows: Vec<_> = batches.iter().map(|sealed| raw::rows(&sealed.batch)).collect();
    let begun = Instant::now();
    for rows in &rows {
        let mut batch = WriteBatch::default();
        for (table, key, value) in rows {
            let family = db.cf_handle(table.name()).context("the table is there")?;
            match value {
                Some(value) => batch.put_cf(&family, key, value),
                None => batch.delete_cf(&family, key),
            }
        }
        db.write_opt(batch, &durable)?;
    }
    Ok(rate(rows.len() * BATCH, begun.elapsed()))
}

/// Automerge alone: as many records in as many documents, one change a document and batch.
fn automerge_rate() -> f64 {
    let fresh = || Automerge::new().with_actor(ActorId::from(&[1; 16][..]));
    let mut documents: Vec<Automerge> = (0..CONVERSATIONS).map(|_| fresh()).collect();
    let records = BATCH / CONVERSATIONS;
    let mut number = u64::MAX;
    let begun = Instant::now();
    let batches = BATCHES / 2;
    for batch in 0..batches {
        for document in &mut documents {
            // A document is full after 512 records, as a segment is.
            if batch % (512 / records) == 0 {
                *document = fresh();
            }
            number -= 1;
            let mut transaction = document.transaction();
            for record in 0..records {
                let key = format!("{number:020}{record:031}");
                let value = ScalarValue::Bytes(vec![7; 37]);
                transaction.put(ROOT, key, value).expect("automerge writes");
            }
            transaction.commit_with(CommitOptions::default().with_time(0));
            let change = document.get_last_local_change().expect("was written");
            std::hint::black_box(change.raw_bytes().to_vec());
        }
    }
    rate(batches * BATCH, begun.elapsed())
}

fn apply(name: &str, conversations: usize) -> Result<()> {
    let mut workload = Workload::new(2, conversations)?;
    let mut source = replica(Arc::new(MemoryEngine::new()), 1)?;
    let created = create_all(&mut source, &workload)?;
    let mut parcels: Vec<Vec<Parcel>> = Vec::new();
    for _ in 0..BATCHES / 2 {
        for number in 0..BATCH {
            source.post(NOW, workload.message(Some(number % conversations)))?;
        }
        parcels.push(persist(&mut source)?.own.clone());
    }
    let directory = raw::directory()?;
    let engine = rocks(directory.path())?;
    let mut pipeline = Pipeline::over(replica(Arc::clone(&engine), 2)?, engine);
    take(&mut pipeline.replica, &created.own)?;
    pipeline.turn()?;
    let mut rows = Vec::new();
    let begun = Instant::now();
    for batch in &parcels {
        take(&mut pipeline.replica, batch)?;
        rows.push(pipeline.turn()?);
    }
    pipeline.settle()?;
    let ours = rate(parcels.len() * BATCH, begun.elapsed());
    pipeline.end()?;
    let raw = raw_rate(&rows)?;
    println!("{name}, batch {BATCH}");
    println!("  warbler          {ours:9.0} messages/s");
    println!("  raw RocksDB      {raw:9.0} messages/s, the same rows ({:.2} of it)", ours / raw);
    Ok(())
}

fn take(node: &mut Replica, parcels: &[Parcel]) -> Result<()> {
    for parcel in parcels {
        let entry = Entry::decode(&parcel.entry)?;
        node.apply(NOW, parcel, entry, |_, _| true)?;
    }
    Ok(())
}

/// A conversation of a million messages: disk, start, and cold pages.
fn million() -> Result<()> {
    let directory = raw::directory()?;
    let mut workload = Workload::new(3, 1)?;
    let name = workload.conversations()[0].clone();
    let engine = rocks(directory.path())?;
    let mut node = replica(Arc::clone(&engine), 1)?;
    create_all(&mut node, &workload)?;
    let mut pipeline = Pipeline::over(node, Arc::clone(&engine));
    for batch in 0..MILLION / BATCH {
        for _ in 0..BATCH {
            pipeline.replica.post(NOW + batch as u64 * 1_000, workload.message(Some(0)))?;
        }
        pipeline.turn()?;
    }
    let (mut node, _) = pipeline.end()?;
    let messages = MILLION / BATCH * BATCH;
    let before = engine.disk_bytes();
    let begun = Instant::now();
    let snapshots = snapshot_and_trim(&mut node, &engine)?;
    let took = begun.elapsed();
    compact(&engine)?;
    println!("a conversation of {messages} messages");
    println!("  disk before trimming   {:6.0} bytes a message", before as f64 / messages as f64);
    println!(
        "  disk, trimmed, compact {:6.0} bytes a message",
        engine.disk_bytes() as f64 / messages as f64
    );
    println!(
        "  {snapshots} snapshots and trimming took {:.1} µs a message",
        took.as_secs_f64() * 1e6 / messages as f64
    );
    drop((node, engine));
    drop_page_cache();
    let begun = Instant::now();
    let engine = rocks(directory.path())?;
    let node = replica(Arc::clone(&engine), 2)?;
    println!("  start                  {:6.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    drop((node, engine));
    cold_pages(directory.path(), &name)
}

/// Makes all snapshots there can be, and trims all the log.
fn snapshot_and_trim(node: &mut Replica, engine: &SharedEngine) -> Result<usize> {
    let mut snapshots = 0;
    loop {
        let safe = node.durable().vector.clone();
        let kept = node.trim(&safe, 100_000)?;
        let mut documents: Vec<_> = node.full_segments().collect();
        documents.extend(kept.wants.iter().copied());
        documents.truncate(64);
        for document in &documents {
            if let Some(built) = Built::of(&*engine.view(), node.space(), *document)? {
                node.install(built)?;
                snapshots += 1;
            }
        }
        if kept.trimmed == 0 && documents.is_empty() {
            return Ok(snapshots);
        }
        persist(node)?;
    }
}

/// Flushes and compacts all tables.
fn compact(engine: &SharedEngine) -> Result<()> {
    let all: [(Table, Vec<u8>, Vec<u8>); 7] =
        Table::ALL.map(|table| (table, Vec::new(), vec![0xff_u8; 64]));
    Ok(engine.purge(&all)?)
}

fn cold_pages(path: &Path, name: &warbler_store::name::Name) -> Result<()> {
    let space = SpaceId::of(&"bench".parse()?);
    let engine = rocks(path)?;
    let reader = Reader::new(Arc::clone(&engine), space);
    let newest = reader.page(name, Range::Last, 1)?.messages.pop().context("a message")?.id;
    drop((reader, engine));
    let mut pages = Cold::default();
    let mut reads = Cold::default();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut calls = 0;
    let counting = {
        let before = read_calls()?;
        read_calls()? - before
    };
    for _ in 0..COLD_PAGES {
        let engine = rocks(path)?;
        let reader = Reader::new(Arc::clone(&engine), space);
        // What every page needs: the file list, and the conversation's row.
        reader.conversation(name)?;
        drop_page_cache();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let span = newest.front().millis - NOW;
        let front = warbler_store::id::Front { millis: NOW + random % span.max(1), counter: 0 };
        let mut id = [0; 16];
        id[..8].copy_from_slice(&front.to_bytes());
        let before = read_calls()?;
        let after = Range::After(warbler_store::id::MessageId(id));
        let page = pages.time(|| reader.page(name, after, PAGE))?;
        calls += read_calls()? - before - counting;
        if page.messages.len() < PAGE {
            bail!("a page of {} messages", page.messages.len());
        }
        drop((reader, engine));
        let file = largest_file(path)?;
        reads.time(|| read_at_random(&file, random))?;
    }
    println!(
        "  page of {PAGE}, cold        p50 {:.2} ms, p99 {:.2} ms, {:.1} reads",
        pages.share(50),
        pages.share(99),
        f64::from(calls) / COLD_PAGES as f64
    );
    println!(
        "  one raw read of 8 KiB  p50 {:.2} ms, p99 {:.2} ms",
        reads.share(50),
        reads.share(99)
    );
    Ok(())
}

/// How long things took that found nothing in any cache.
#[derive(Default)]
struct Cold(Vec<Duration>);

impl Cold {
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        self.0.push(begun.elapsed());
        done
    }

    /// The time in milliseconds that `percent` of them did not exceed.
    fn share(&mut self, percent: usize) -> f64 {
        self.0.sort_unstable();
        let at = (self.0.len() * percent / 100).min(self.0.len() - 1);
        self.0[at].as_secs_f64() * 1e3
    }
}

/// Reads this process has asked of the kernel so far.
fn read_calls() -> Result<u32> {
    let counted = std::fs::read_to_string("/proc/self/io")?;
    let line = counted.lines().find_map(|line| line.strip_prefix("syscr: "));
    Ok(line.context("syscr")?.parse()?)
}

fn largest_file(path: &Path) -> Result<std::path::PathBuf> {
    let files: Vec<_> = std::fs::read_dir(path)?.collect::<Result<_, _>>()?;
    let largest = files.iter().max_by_key(|file| file.metadata().map_or(0, |it| it.len()));
    Ok(largest.context("a file")?.path())
}

/// The ceiling of a cold page: one read of a block, somewhere in the same file system.
fn read_at_random(file: &Path, random: u64) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::open(file)?;
    let blocks = file.metadata()?.len() / 8192;
    let mut block = [0; 8192];
    file.read_exact_at(&mut block, random % blocks.max(1) * 8192)?;
    std::hint::black_box(block);
    Ok(())
}

/// Asks the kernel to forget what it has cached of files; only root may.
fn drop_page_cache() {
    if std::fs::write("/proc/sys/vm/drop_caches", "1").is_err() {
        println!("  (the page cache could not be dropped: what follows is warm)");
    }
}

/// A million messages in a hundred thousand conversations: memory must not grow with them.
fn memory() -> Result<()> {
    let directory = raw::directory()?;
    let mut workload = Workload::new(4, CONVERSATIONS_OF_MEMORY)?;
    let engine = rocks(directory.path())?;
    let mut node = replica(Arc::clone(&engine), 1)?;
    create_all(&mut node, &workload)?;
    let mut pipeline = Pipeline::over(node, Arc::clone(&engine));
    let begun = Instant::now();
    let mut peaks = Vec::new();
    for batch in 0..MILLION / BATCH {
        for message in workload.messages(BATCH) {
            pipeline.replica.post(NOW + batch as u64, message)?;
        }
        pipeline.turn()?;
        if batch % (MILLION / BATCH / 5) == 0 {
            peaks.push(resident_mib()?);
        }
    }
    pipeline.settle()?;
    peaks.push(resident_mib()?);
    let took = begun.elapsed();
    pipeline.end()?;
    println!("{MILLION} messages in {CONVERSATIONS_OF_MEMORY} conversations");
    println!("  {:.0} messages/s", rate(MILLION, took));
    println!("  resident memory along the way: {peaks:?} MiB");
    Ok(())
}

fn resident_mib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    let kib: u64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kib / 1024)
}
