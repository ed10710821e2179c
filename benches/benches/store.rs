//! Append, page read and remote apply, each beside what its parts cost alone.
//!
//! Every group does one piece of work several ways; `cargo run -p warbler-benches --bin ratios`
//! prints the medians of the last run side by side.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context, Result};
use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId, Automerge, ROOT, ScalarValue};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rocksdb::{DB, Options, WriteBatch, WriteOptions};
use warbler_benches::raw;
use warbler_benches::workload::{NOW, Workload, create_all, persist, post_all, replica, rocks};
use warbler_store::engine::{MemoryEngine, Table};
use warbler_store::entry::{Entry, Parcel};
use warbler_store::id::SpaceId;
use warbler_store::reader::{Range, Reader};
use warbler_store::replica::{NewMessage, Replica, Sealed};

/// Messages in one batch.
const BATCH: usize = 1024;
/// Conversations that the messages of a batch are spread over.
const CONVERSATIONS: usize = 256;
/// Messages in the conversation that pages are read from.
const LONG: usize = 100_000;
/// Messages in a page.
const PAGE: usize = 50;

fn append(criterion: &mut Criterion) {
    run(criterion, "append", |group| {
        let directory = raw::directory()?;
        let mut workload = Workload::new(1, CONVERSATIONS)?;
        let mut node = replica(rocks(directory.path())?, 1)?;
        create_all(&mut node, &workload)?;
        group.bench_function("warbler", |bencher| {
            bencher.iter_batched(
                || workload.messages(BATCH),
                |messages| post_all(&mut node, messages).expect("posts"),
                BatchSize::PerIteration,
            );
        });
        let mut batches = Batches::new(CONVERSATIONS)?;
        bench_raw(group, || batches.next().map(|sealed| raw::rows(&sealed.batch)))?;
        bench_automerge(group)
    });
}

fn remote_apply(criterion: &mut Criterion) {
    for (name, conversations) in [("apply, 16 messages an entry", 64), ("apply, 1 an entry", BATCH)]
    {
        run(criterion, name, |group| {
            let directory = raw::directory()?;
            let mut batches = Batches::new(conversations)?;
            let mut node = replica(rocks(directory.path())?, 2)?;
            apply_all(&mut node, &batches.created.own)?;
            group.bench_function("warbler", |bencher| {
                bencher.iter_batched(
                    || batches.next().expect("makes a batch"),
                    |sealed| apply_all(&mut node, &sealed.own).expect("applies"),
                    BatchSize::PerIteration,
                );
            });
            let mut source = Batches::new(conversations)?;
            let mut receiver = replica(Arc::new(MemoryEngine::new()), 2)?;
            apply_all(&mut receiver, &source.created.own)?;
            bench_raw(group, || {
                let sealed = source.next()?;
                Ok(raw::rows(&apply_all(&mut receiver, &sealed.own)?.batch))
            })
        });
    }
}

fn page(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("page of 50");
    group.throughput(Throughput::Elements(PAGE as u64));
    let directory = raw::directory().expect("a directory");
    let mut workload = Workload::new(3, 1).expect("names");
    let engine = rocks(directory.path()).expect("opens");
    let mut node = replica(Arc::clone(&engine), 1).expect("opens");
    create_all(&mut node, &workload).expect("creates");
    for _ in 0..LONG / BATCH {
        let messages = workload.messages(BATCH);
        post_all(&mut node, messages).expect("posts");
    }
    let name = workload.conversations()[0].clone();
    let space = SpaceId::of(&"bench".parse().expect("a name"));
    let reader = Reader::new(Arc::clone(&engine), space);
    let middle = middle_of(&reader, &name).expect("reads");
    for (place, range) in [("newest", Range::Last), ("middle", Range::Before(middle))] {
        group.bench_function(format!("warbler, {place}"), |bencher| {
            bencher.iter(|| {
                let page = reader.page(&name, range, PAGE).expect("reads");
                assert_eq!(black_box(page).messages.len(), PAGE);
            });
        });
    }
    let rows = read_rows(&*engine).expect("reads");
    bench_raw_page(&mut group, rows).expect("runs");
    group.finish();
}

criterion_group!(benches, append, remote_apply, page);
criterion_main!(benches);

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;
type RawRow = (Table, Vec<u8>, Option<Vec<u8>>);

fn run(criterion: &mut Criterion, name: &str, bench: impl FnOnce(&mut Group<'_>) -> Result<()>) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(BATCH as u64)).sample_size(30);
    bench(&mut group).expect("the bench runs");
    group.finish();
}

/// Batches of another node, each of [`BATCH`] messages spread evenly over the conversations.
struct Batches {
    node: Replica,
    workload: Workload,
    created: Arc<Sealed>,
    conversations: usize,
}

impl Batches {
    fn new(conversations: usize) -> Result<Self> {
        let workload = Workload::new(2, conversations)?;
        let mut node = replica(Arc::new(MemoryEngine::new()), 1)?;
        let created = create_all(&mut node, &workload)?;
        Ok(Self { node, workload, created, conversations })
    }

    fn next(&mut self) -> Result<Arc<Sealed>> {
        let even = |n: usize| self.workload.message(Some(n % self.conversations));
        let messages: Vec<NewMessage> = (0..BATCH).map(even).collect();
        post_all(&mut self.node, messages)
    }
}

fn apply_all(node: &mut Replica, parcels: &[Parcel]) -> Result<Arc<Sealed>> {
    for parcel in parcels {
        let entry = Entry::decode(&parcel.entry)?;
        node.apply(NOW, parcel, entry, |_, _| true)?;
    }
    persist(node)
}

/// RocksDB alone: the very rows of a batch, in one write with one fsync.
fn bench_raw(group: &mut Group<'_>, mut rows: impl FnMut() -> Result<Vec<RawRow>>) -> Result<()> {
    let directory = raw::directory()?;
    let db = open_raw(directory.path())?;
    let mut durable = WriteOptions::default();
    durable.set_sync(true);
    group.bench_function("raw RocksDB", |bencher| {
        bencher.iter_batched(
            || rows().expect("makes rows"),
            |rows| write_raw(&db, &durable, &rows).expect("writes"),
            BatchSize::PerIteration,
        );
    });
    Ok(())
}

fn open_raw(path: &std::path::Path) -> Result<DB> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    Ok(DB::open_cf(&options, path, Table::ALL.map(Table::name))?)
}

fn write_raw(db: &DB, options: &WriteOptions, rows: &[RawRow]) -> Result<()> {
    let mut batch = WriteBatch::default();
    for (table, key, value) in rows {
        let family = db.cf_handle(table.name()).context("the table is there")?;
        match value {
            Some(value) => batch.put_cf(&family, key, value),
            None => batch.delete_cf(&family, key),
        }
    }
    Ok(db.write_opt(batch, options)?)
}

/// Automerge alone: the same number of records in the same number of documents, one change a
/// document, its bytes taken out.
fn bench_automerge(group: &mut Group<'_>) -> Result<()> {
    let fresh = |_| Automerge::new().with_actor(ActorId::from(&[1; 16][..]));
    let mut documents: Vec<Automerge> = (0..CONVERSATIONS).map(fresh).collect();
    let mut written = vec![0_u32; CONVERSATIONS];
    let mut number = u64::MAX;
    group.bench_function("Automerge alone", |bencher| {
        bencher.iter(|| {
            for index in 0..CONVERSATIONS {
                // A document is full after 512 records, as a segment is.
                if written[index] >= 512 {
                    documents[index] = fresh(index);
                    written[index] = 0;
                }
                let records = BATCH / CONVERSATIONS;
                written[index] += records as u32;
                number -= 1;
                black_box(append_records(&mut documents[index], number, records));
            }
        });
    });
    Ok(())
}

fn append_records(document: &mut Automerge, number: u64, records: usize) -> Vec<u8> {
    let mut transaction = document.transaction();
    for record in 0..records {
        let key = format!("{number:020}{record:031}");
        transaction.put(ROOT, key, ScalarValue::Bytes(vec![7; 37])).expect("writes");
    }
    transaction.commit_with(CommitOptions::default().with_time(0));
    document.get_last_local_change().expect("was written").raw_bytes().to_vec()
}

fn middle_of(
    reader: &Reader,
    name: &warbler_store::name::Name,
) -> Result<warbler_store::id::MessageId> {
    let mut range = Range::Last;
    for _ in 0..LONG / PAGE / 2 / 10 {
        let page = reader.page(name, range, PAGE * 10)?;
        range = Range::Before(page.messages.first().context("a message")?.id);
    }
    match range {
        Range::Before(id) | Range::After(id) => Ok(id),
        Range::Last => anyhow::bail!("the conversation is too short"),
    }
}

type PageRows = Vec<(Table, Vec<u8>, Vec<u8>)>;

fn read_rows(engine: &dyn warbler_store::engine::Engine) -> Result<PageRows> {
    let mut rows = Vec::new();
    for table in [Table::Timeline, Table::Bodies] {
        let all = engine.scan(table, &[], &[0xff; 64], warbler_store::engine::Direction::Forward);
        for row in all {
            let (key, value) = row?;
            rows.push((table, key, value));
        }
    }
    Ok(rows)
}

/// RocksDB alone: the same rows, the newest fifty of both tables.
fn bench_raw_page(group: &mut Group<'_>, rows: PageRows) -> Result<()> {
    let directory = raw::directory()?;
    let db = open_raw(directory.path())?;
    for (table, key, value) in rows {
        let family = db.cf_handle(table.name()).context("the table is there")?;
        db.put_cf(&family, key, value)?;
    }
    group.bench_function("raw RocksDB", |bencher| {
        bencher.iter(|| {
            let mut bytes = 0;
            for table in [Table::Timeline, Table::Bodies] {
                let family = db.cf_handle(table.name()).expect("the table is there");
                let rows = db.iterator_cf(&family, rocksdb::IteratorMode::End).take(PAGE);
                for row in rows {
                    let (key, value) = row.expect("reads");
                    bytes += key.len() + value.len();
                }
            }
            black_box(bytes)
        });
    });
    Ok(())
}
