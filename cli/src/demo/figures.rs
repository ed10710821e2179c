//! What the demo measured, as a table for people and as JSON for scripts.
//!
//! Computes from what the ledger and the relay recorded; asks nobody. Invariant: every figure says what it counts, and lags
//! are shown beside the one-way delay that no system could beat.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::checks::{Agreement, Finding};
use super::ledger::{Part, Post, Tail};
use super::sample::Sample;
use super::screen::grouped;
use super::stage::{EU_WEST, PLACES, Wire, one_way};

/// The longest time a histogram tells apart, in microseconds.
const LONGEST_US: u64 = 120_000_000;

/// What is told at the end. Fields name their units.
#[derive(Debug, Default, Serialize)]
pub(super) struct Figures {
    seconds_a_part: u64,
    conversations: u64,
    messages: u64,
    imported: Imported,
    posts_acknowledged: u64,
    /// Acknowledged by another region than their author's.
    posts_moved: u64,
    /// From sending a post to its acknowledgement, all regions up.
    posting: Option<Spread>,
    /// From sending a post to a follower in the other region seeing it, all regions up.
    lag: Vec<Lag>,
    /// The same in the part in which one region is killed, between the others.
    lag_one_down: Vec<Lag>,
    wire: Vec<Sent>,
    returned: Returned,
    digest: String,
    checks: Vec<Finding>,
}

#[derive(Debug, Default, Serialize)]
struct Imported {
    messages: u64,
    conversations: u64,
    seconds: f64,
    seconds_until_everywhere: f64,
}

#[derive(Debug, Default, Serialize)]
struct Returned {
    region: &'static str,
    missed_posts: u64,
    seconds_until_ready: f64,
    seconds_until_converged: f64,
}

/// Median and tail of many times.
#[derive(Debug, Serialize)]
struct Spread {
    count: u64,
    p50_ms: f64,
    p99_ms: f64,
}

#[derive(Debug, Serialize)]
struct Lag {
    from: &'static str,
    to: &'static str,
    one_way_ms: f64,
    #[serde(flatten)]
    spread: Spread,
}

/// UDP payload from one region to another, with everything that is not a message.
#[derive(Debug, Serialize)]
struct Sent {
    part: &'static str,
    from: &'static str,
    to: &'static str,
    messages: u64,
    packets: u64,
    bytes: u64,
    bytes_a_message: f64,
}

/// A region that was away, and how many posts were acknowledged meanwhile.
pub(super) struct Outage {
    pub(super) killed: usize,
    pub(super) missed: u64,
}

impl Figures {
    pub(super) fn new(seconds_a_part: u64) -> Self {
        Self { seconds_a_part, ..Self::default() }
    }

    /// The sample was `taken` in one region, and was `everywhere` then; `wire` was read before and after.
    pub(super) fn imported(
        &mut self,
        sample: &Sample,
        taken: Duration,
        everywhere: Duration,
        wire: (&Wire, &Wire),
    ) {
        self.imported = Imported {
            messages: sample.messages(),
            conversations: sample.conversations().len() as u64,
            seconds: rounded(taken.as_secs_f64()),
            seconds_until_everywhere: rounded(everywhere.as_secs_f64()),
        };
        for to in (0..PLACES.len()).filter(|to| *to != EU_WEST) {
            self.wire.push(sent("import", (EU_WEST, to), sample.messages(), wire));
        }
    }

    /// People wrote in all regions; `wire` was read before and after.
    pub(super) fn all_up(&mut self, posts: &BTreeMap<Tail, Post>, wire: (&Wire, &Wire)) {
        let posts: Vec<&Post> = posts.values().filter(|post| post.part == Part::AllUp).collect();
        self.posting = spread(posts.iter().map(|post| post.acknowledged - post.sent));
        for (from, to) in directions() {
            self.lag.extend(lag(&posts, from, to));
            let taken = posts.iter().filter(|post| post.taken_by == from).count() as u64;
            self.wire.push(sent("writing", (from, to), taken, wire));
        }
    }

    /// People wrote while one region was gone.
    pub(super) fn one_down(&mut self, posts: &BTreeMap<Tail, Post>, outage: &Outage) {
        let part: Vec<&Post> = posts.values().filter(|post| post.part == Part::OneDown).collect();
        let living = |(from, to): &(usize, usize)| ![*from, *to].contains(&outage.killed);
        for (from, to) in directions().filter(living) {
            self.lag_one_down.extend(lag(&part, from, to));
        }
        let moved = posts.values().filter(|post| post.taken_by != post.home).count();
        self.posts_acknowledged = posts.len() as u64;
        self.posts_moved = moved as u64;
        self.returned.region = PLACES[outage.killed].region;
        self.returned.missed_posts = outage.missed;
    }

    /// The region answered so long after its start, and all agreed so long after it.
    pub(super) fn returned(&mut self, ready: Duration, converged: Duration, agreement: Agreement) {
        self.returned.seconds_until_ready = rounded(ready.as_secs_f64());
        self.returned.seconds_until_converged = rounded(converged.as_secs_f64());
        self.messages = agreement.messages;
        self.conversations = agreement.conversations;
        self.digest = agreement.digest;
    }

    pub(super) fn checked(&mut self, finding: Finding) {
        self.checks.push(finding);
    }

    /// A promise that was found broken.
    pub(super) fn broken(&self) -> Option<String> {
        self.checks.iter().find_map(|finding| {
            let how = finding.broken.as_ref()?;
            Some(format!("{}: {how}", finding.claim))
        })
    }

    /// The figures as lines of text.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.summary().iter().map(|(what, figure)| format!("  {what:<14}{figure}")).collect();
        lines.push(String::new());
        lines.push(format!(
            "  {:<44}{:>9}{:>9}{:>9}{:>8}",
            "lag: sent, until seen elsewhere (ms)", "one way", "p50", "p99", "posts"
        ));
        lines.extend(self.lag.iter().map(|lag| lag.line("")));
        let remark = format!(", {} gone", self.returned.region);
        lines.extend(self.lag_one_down.iter().map(|lag| lag.line(&remark)));
        lines.push(String::new());
        lines.push(format!(
            "  {:<44}{:>9}{:>9}{:>11}{:>17}",
            "wire: all UDP payload, to one peer", "messages", "packets", "bytes", "bytes a message"
        ));
        lines.extend(self.wire.iter().map(Sent::line));
        lines
    }

    fn summary(&self) -> Vec<(&'static str, String)> {
        let Imported { messages, seconds, seconds_until_everywhere, .. } = self.imported;
        let Returned { region, missed_posts, seconds_until_ready, seconds_until_converged } =
            self.returned;
        let mut rows = vec![
            (
                "messages",
                format!("{} in {} conversations", grouped(self.messages), self.conversations),
            ),
            (
                "imported",
                format!(
                    "{} in {seconds:.2} s, everywhere after {seconds_until_everywhere:.2} s",
                    grouped(messages)
                ),
            ),
            (
                "acknowledged",
                format!(
                    "{} posts, {} of them by another region than their author's",
                    grouped(self.posts_acknowledged),
                    grouped(self.posts_moved)
                ),
            ),
        ];
        if let Some(Spread { p50_ms, p99_ms, .. }) = self.posting {
            let spread = format!("p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms");
            rows.push((
                "posting",
                format!("{spread}, from sending until it is on disk and acknowledged"),
            ));
        }
        rows.push((
            "convergence",
            format!(
                "{seconds_until_converged:.2} s after the start of {region}, which answered after \
                 {seconds_until_ready:.2} s and had missed {} posts",
                grouped(missed_posts)
            ),
        ));
        rows.push(("digest", self.digest.clone()));
        rows
    }
}

impl Lag {
    fn line(&self, remark: &str) -> String {
        let Spread { count, p50_ms, p99_ms } = self.spread;
        let direction = format!("{} → {}{remark}", self.from, self.to);
        format!(
            "    {direction:<42}{:>9.0}{p50_ms:>9.1}{p99_ms:>9.1}{:>8}",
            self.one_way_ms,
            grouped(count)
        )
    }
}

impl Sent {
    fn line(&self) -> String {
        let direction = format!("{}, {} → {}", self.part, self.from, self.to);
        format!(
            "    {direction:<42}{:>9}{:>9}{:>11}{:>17.0}",
            grouped(self.messages),
            grouped(self.packets),
            grouped(self.bytes),
            self.bytes_a_message
        )
    }
}

fn directions() -> impl Iterator<Item = (usize, usize)> {
    let pairs = (0..PLACES.len()).flat_map(|from| (0..PLACES.len()).map(move |to| (from, to)));
    pairs.filter(|(from, to)| from != to)
}

/// How long posts that `from` took needed to be seen in `to`, if there were any.
fn lag(posts: &[&Post], from: usize, to: usize) -> Option<Lag> {
    // A post that moved was sent long before this region took it: that is the outage, not the lag.
    let taken = posts.iter().filter(|post| post.taken_by == from && post.home == from);
    let spread = spread(taken.filter_map(|post| Some(post.seen[to]? - post.sent)))?;
    let one_way_ms = one_way(from, to).as_secs_f64() * 1_000.0;
    Some(Lag { from: PLACES[from].region, to: PLACES[to].region, one_way_ms, spread })
}

fn spread(times: impl Iterator<Item = Duration>) -> Option<Spread> {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, LONGEST_US, 3).ok()?;
    for time in times {
        let micros = u64::try_from(time.as_micros()).unwrap_or(LONGEST_US);
        histogram.saturating_record(micros.max(1));
    }
    let at = |quantile| rounded(histogram.value_at_quantile(quantile) as f64 / 1_000.0);
    let count = histogram.len();
    (count > 0).then(|| Spread { count, p50_ms: at(0.5), p99_ms: at(0.99) })
}

/// What went from one region to another between two readings of the relay's counters.
fn sent(
    part: &'static str,
    (from, to): (usize, usize),
    messages: u64,
    (before, after): (&Wire, &Wire),
) -> Sent {
    let reading = |wire: &Wire| wire.get(&(from, to)).copied().unwrap_or_default();
    let (before, after) = (reading(before), reading(after));
    let bytes = after.sent_bytes - before.sent_bytes;
    Sent {
        part,
        from: PLACES[from].region,
        to: PLACES[to].region,
        messages,
        packets: after.sent_packets - before.sent_packets,
        bytes,
        bytes_a_message: rounded(bytes as f64 / messages.max(1) as f64),
    }
}

/// Three digits after the point are more than any of these measurements has.
fn rounded(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;
    use warbler_simulations::relay::Traffic;

    fn post(taken_by: usize, seen_after_ms: u64) -> Post {
        let sent = Instant::now();
        Post {
            author: "user1".parse().expect("a name"),
            body: "hello".to_owned(),
            home: 0,
            taken_by,
            sent,
            acknowledged: sent + Duration::from_millis(2),
            part: Part::AllUp,
            seen: [None, Some(sent + Duration::from_millis(seen_after_ms)), None],
        }
    }

    #[test]
    fn a_lag_counts_only_posts_of_its_own_direction_that_were_seen() {
        let posts = [post(0, 25), post(0, 45), post(1, 900)];
        let posts: Vec<&Post> = posts.iter().collect();
        let lag_to = |to| lag(&posts, 0, to);
        let lag = lag_to(1).expect("two were seen");
        assert_eq!((lag.from, lag.to, lag.one_way_ms), ("eu-west", "us-east", 20.0));
        assert_eq!(lag.spread.count, 2);
        assert!((24.9..25.1).contains(&lag.spread.p50_ms), "{}", lag.spread.p50_ms);
        assert!((44.9..45.1).contains(&lag.spread.p99_ms), "{}", lag.spread.p99_ms);
        assert!(lag_to(2).is_none());
    }

    #[test]
    fn bytes_a_message_are_what_passed_between_two_readings() {
        let reading = |sent_packets, sent_bytes| {
            Wire::from([((0, 1), Traffic { sent_packets, sent_bytes, ..Traffic::default() })])
        };
        let sent = sent("writing", (0, 1), 4, (&reading(5, 100), &reading(9, 1_300)));
        assert_eq!((sent.packets, sent.bytes, sent.bytes_a_message), (4, 1_200, 300.0));
    }

    #[test]
    fn a_broken_check_is_remembered() {
        let mut figures = Figures::new(4);
        figures.checked(Finding { claim: "all is well".to_owned(), broken: None });
        assert_eq!(figures.broken(), None);
        let broken = Some("3 are".to_owned());
        figures.checked(Finding { claim: "nothing is lost".to_owned(), broken });
        assert_eq!(figures.broken().as_deref(), Some("nothing is lost: 3 are"));
    }
}
