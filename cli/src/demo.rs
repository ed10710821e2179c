//! `warbler demo`: three regions on this machine, one conversation, and a region lost and found.
//!
//! ```text
//! stage     three node processes, their folders, the relay between them
//! people    writers and followers, who are clients like any other and fail over like them
//! ledger    who posted what, when it was acknowledged, where and when it was seen
//! checks    what must hold at the end, read back over HTTP
//! figures   what is told at the end
//! screen    how it is told
//! ```
//!
//! This file is the play: which act follows which. It must not know how a node is started or a lag is computed.
//! Invariant: whatever happens, the processes of the stage end with this function, and its folder goes unless `--keep`.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, timeout_at};

use crate::failure::Failure;
use crate::output;
use warbler_client::PageAt;

mod checks;
mod figures;
mod ledger;
mod people;
mod process;
mod sample;
mod screen;
mod stage;

use figures::{Figures, Outage};
use ledger::Ledger;
use people::{People, follow_all, write_all};
use sample::Sample;
use screen::{Screen, grouped, millis, seconds};
use stage::{AP_SOUTH, EU_WEST, PLACES, Stage, US_EAST};

/// How long a region may take to become ready, all regions to converge, and followers to see what they miss.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long all is well in the second part before a region is killed.
const CALM_BEFORE_KILL: Duration = Duration::from_secs(2);

/// How often something that was said is shown.
const SHOW_EVERY: Duration = Duration::from_millis(1_500);

/// How often it is looked whether followers have seen everything.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Arguments of `warbler demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many seconds people write in each of the two parts: all regions up, and one killed
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(4..=3600))]
    seconds: u64,
    /// At the end leave the nodes up until Ctrl-C, and keep their data
    #[arg(long)]
    keep: bool,
    /// Print the figures as JSON on standard output, and what happens on standard error
    #[arg(long)]
    json: bool,
}

/// Plays the demo.
///
/// # Errors
/// When a node cannot be started, a promise is broken, or the user ends it.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let screen = Screen::new(args.json);
    screen.title()?;
    let mut stage = Stage::build(args.keep)?;
    let outcome = tokio::select! {
        outcome = play(&mut stage, &screen, &args) => outcome,
        failure = interrupted() => Err(failure),
    };
    match outcome {
        Ok(()) if args.keep => stay(stage, &screen).await,
        Ok(()) => stage.close(),
        Err(failure) => Err(stage.close_after(failure)),
    }
}

async fn play(stage: &mut Stage, screen: &Screen, args: &Args) -> Result<(), Failure> {
    let sample = Sample::embedded()?;
    let writing = Duration::from_secs(args.seconds);
    let mut figures = Figures::new(args.seconds);

    raise(stage, screen).await?;
    import(stage, screen, &sample, &mut figures).await?;

    let ledger = Ledger::new();
    let people = People::new(stage, &sample, &ledger).await?;
    let mut followers = follow_all(&people).await?;
    all_write(stage, screen, &people, writing, &mut figures).await?;
    one_is_killed(stage, screen, &people, writing, &mut figures).await?;
    it_returns(stage, screen, &mut figures).await?;

    followers_are_done(&mut followers, &ledger).await?;
    followers.shutdown().await;
    conclude(stage, screen, &sample, &people, &mut figures).await?;
    if args.json { output::json(&figures) } else { screen.figures(&figures) }
}

/// Act 1: three nodes, connected through the relay.
async fn raise(stage: &mut Stage, screen: &Screen) -> Result<(), Failure> {
    screen.act("Three regions")?;
    for (region, place) in PLACES.iter().enumerate() {
        stage.prepare(region).await?;
        let url = stage.url(region);
        screen.say(format!("{:<9} on {:<6} {url}", place.region, place.cloud))?;
    }
    stage.write_cluster_file()?;
    for region in 0..PLACES.len() {
        stage.start(region)?;
    }
    stage.all_ready(PATIENCE).await?;
    for trip in stage.all_connected(PATIENCE).await? {
        screen.say(format!(
            "{} and {} are connected: {} ms round trip by the relay, {} measured",
            trip.one,
            trip.other,
            trip.emulated_ms,
            millis(trip.measured)
        ))?;
    }
    Ok(())
}

/// Act 2: real conversations come in at one region.
async fn import(
    stage: &mut Stage,
    screen: &Screen,
    sample: &Sample,
    figures: &mut Figures,
) -> Result<(), Failure> {
    screen.act("Real conversations")?;
    let before = stage.wire();
    let began = Instant::now();
    stage.import(EU_WEST, sample).await?;
    let taken = began.elapsed();
    screen.say(format!(
        "warbler import: {} messages in {} conversations, into {} in {}",
        grouped(sample.messages()),
        sample.conversations().len(),
        PLACES[EU_WEST].region,
        seconds(taken)
    ))?;
    let agreement = checks::converged(stage.clients(), PATIENCE).await?;
    let everywhere = began.elapsed();
    screen.say(format!(
        "all three regions hold them {} after the import began; digest {:.16}…",
        seconds(everywhere),
        agreement.digest
    ))?;
    figures.imported(sample, taken, everywhere, (&before, &stage.wire()));
    Ok(())
}

/// Act 3: people write in all three regions at once.
async fn all_write(
    stage: &Stage,
    screen: &Screen,
    people: &People,
    writing: Duration,
    figures: &mut Figures,
) -> Result<(), Failure> {
    screen.act("People write in all three regions at once")?;
    screen.say(format!(
        "{} people in #{}, {} posts a second in each region",
        people.count(),
        people.conversation(),
        people::POSTS_PER_SECOND
    ))?;
    let before = stage.wire();
    let mut writers = write_all(people, Instant::now() + writing);
    show_until_written(screen, people, &mut writers, &[EU_WEST, US_EAST, AP_SOUTH]).await?;
    checks::converged(stage.clients(), PATIENCE).await?;
    figures.all_up(&people.ledger().posts(), (&before, &stage.wire()));
    let acknowledged = people.ledger().count();
    screen
        .say(format!("{} posts acknowledged, and held by all three regions", grouped(acknowledged)))
}

/// Act 4: one region is killed while they write; its people go elsewhere.
async fn one_is_killed(
    stage: &mut Stage,
    screen: &Screen,
    people: &People,
    writing: Duration,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let killed = PLACES[AP_SOUTH].region;
    screen.act(&format!("{killed} is killed while people write"))?;
    let ledger = people.ledger();
    ledger.begin_outage();
    let began = Instant::now();
    let mut writers = write_all(people, began + writing);
    let all = [EU_WEST, US_EAST, AP_SOUTH];
    let calm = show_until_written(screen, people, &mut writers, &all);
    if let Ok(written) = timeout_at(began + CALM_BEFORE_KILL, calm).await {
        written?;
    }
    let before = ledger.count();
    let process = stage.kill(AP_SOUTH)?;
    screen.say(format!("kill -9 {process}: {killed} is gone"))?;
    read_elsewhere(stage, screen, people).await?;
    show_until_written(screen, people, &mut writers, &[EU_WEST, US_EAST]).await?;

    checks::converged(&stage.clients()[..AP_SOUTH], PATIENCE).await?;
    let missed = ledger.count() - before;
    let (moved, authors) = ledger.moved();
    screen.say(format!(
        "{authors} people of {killed} met errors and went elsewhere; {moved} of their posts were acknowledged there"
    ))?;
    screen.say(format!("{} posts acknowledged while {killed} was away", grouped(missed)))?;
    figures.one_down(&ledger.posts(), &Outage { killed: AP_SOUTH, missed });
    Ok(())
}

/// The other regions answer reads while one is gone.
async fn read_elsewhere(stage: &Stage, screen: &Screen, people: &People) -> Result<(), Failure> {
    for region in [EU_WEST, US_EAST] {
        let began = Instant::now();
        let space = &stage.spaces()[region];
        let page = space.page(people.conversation().as_str(), &PageAt::End, 50).await?;
        let took = began.elapsed();
        let last = page.messages.last().map(|last| screen::quoted(&last.author, &last.body));
        screen.say(format!(
            "{:<9} still answers: a page of {} messages in {}, the last one {}",
            PLACES[region].region,
            page.messages.len(),
            millis(took),
            last.unwrap_or_default()
        ))?;
    }
    Ok(())
}

/// Act 5: the region returns with its disk, under a new origin, and catches up.
async fn it_returns(
    stage: &mut Stage,
    screen: &Screen,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let region = PLACES[AP_SOUTH].region;
    screen.act(&format!("{region} returns"))?;
    let old_origin = stage.last_origin(AP_SOUTH);
    let began = Instant::now();
    stage.start(AP_SOUTH)?;
    stage.all_ready(PATIENCE).await?;
    let ready = began.elapsed();
    if stage.last_origin(AP_SOUTH) == old_origin {
        return Err(Failure::bug(format!("{region} runs under its old origin")));
    }
    screen.say(format!("it answers {} after its start, under a new origin", seconds(ready)))?;
    let agreement = checks::converged(stage.clients(), PATIENCE).await?;
    let converged = began.elapsed();
    screen.say(format!(
        "all three regions agree again {} after its start: {} messages, digest {:.16}…",
        seconds(converged),
        grouped(agreement.messages),
        agreement.digest
    ))?;
    figures.returned(ready, converged, agreement);
    Ok(())
}

/// Everything that was promised, read back from all three regions.
async fn conclude(
    stage: &Stage,
    screen: &Screen,
    sample: &Sample,
    people: &People,
    figures: &mut Figures,
) -> Result<(), Failure> {
    screen.act("What was promised, read back from every region")?;
    let findings =
        checks::all(stage.spaces(), people.conversation(), sample, people.ledger()).await?;
    for finding in findings {
        screen.finding(&finding)?;
        figures.checked(finding);
    }
    match figures.broken() {
        Some(broken) => Err(Failure::bug(format!("a promise does not hold: {broken}"))),
        None => Ok(()),
    }
}

/// Shows what is said, and where it was seen how soon, until the writers are done.
async fn show_until_written(
    screen: &Screen,
    people: &People,
    writers: &mut JoinSet<Result<(), Failure>>,
    living: &[usize],
) -> Result<(), Failure> {
    let mut show = interval_at(Instant::now() + SHOW_EVERY / 2, SHOW_EVERY);
    let mut turn = 0;
    loop {
        tokio::select! {
            written = writers.join_next() => match written {
                None => return Ok(()),
                Some(Ok(written)) => written?,
                Some(Err(panic)) => return Err(Failure::bug("a writer has panicked").cause(panic.to_string())),
            },
            _ = show.tick() => {
                let from = living[turn % living.len()];
                turn += 1;
                if let Some(glimpse) = people.ledger().glimpse(from, living) {
                    screen.glimpse(&glimpse)?;
                }
            }
        }
    }
}

/// Waits until every follower has seen what was acknowledged; one that fails ends the demo.
async fn followers_are_done(
    followers: &mut JoinSet<Result<(), Failure>>,
    ledger: &Ledger,
) -> Result<(), Failure> {
    let mut look = tokio::time::interval(LOOK_EVERY);
    let deadline = Instant::now() + PATIENCE;
    // Who still lacks something then is found and named by the checks.
    while ledger.unseen().is_some() && Instant::now() < deadline {
        tokio::select! {
            ended = followers.join_next() => match ended {
                Some(Ok(Err(failure))) => return Err(failure),
                Some(Err(panic)) => return Err(Failure::bug("a follower has panicked").cause(panic.to_string())),
                Some(Ok(Ok(()))) | None => return Err(Failure::bug("a follower ended by itself")),
            },
            _ = look.tick() => {}
        }
    }
    Ok(())
}

/// With `--keep`: the nodes stay up until the user ends them.
async fn stay(stage: Stage, screen: &Screen) -> Result<(), Failure> {
    screen.act("The three regions stay up until Ctrl-C")?;
    let program = process::program();
    for (region, place) in PLACES.iter().enumerate() {
        let url = stage.url(region);
        screen
            .say(format!("{program} --url {url} read general --follow     # {}", place.region))?;
    }
    let (eu, us) = (stage.url(EU_WEST), stage.url(US_EAST));
    screen.say(format!("{program} --url {eu} post general 'Hello from here'"))?;
    screen.say(format!("{program} --url {us} status"))?;
    interrupted().await;
    stage.leave()?.into_iter().try_for_each(|line| screen.say(line))
}

/// Waits until the user, or whoever runs us, wants us to end.
async fn interrupted() -> Failure {
    let ended = Failure::refused("the demo was ended before it was done");
    let listen = |kind| signal(kind).ok();
    let (Some(mut interrupt), Some(mut terminate), Some(mut hangup)) = (
        listen(SignalKind::interrupt()),
        listen(SignalKind::terminate()),
        listen(SignalKind::hangup()),
    ) else {
        // Without handlers the system ends us itself.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => ended,
        _ = terminate.recv() => ended,
        _ = hangup.recv() => ended,
    }
}
