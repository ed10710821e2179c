//! Following a conversation: the last messages, then each new one, across lost connections.
//!
//! Invariant: nothing is skipped and nothing printed twice. The stream is opened *before* the page
//! is read, so what arrives between is in the stream, and what both hold is printed from the page;
//! after a loss the client resumes the stream after the last event that was printed.

use std::collections::BTreeSet;

use warbler_client::{Followed, Happening, PageAt};

use super::Reading;
use crate::failure::Failure;
use crate::output::{one_line, remark, tell_adopted};

/// Prints the last `limit` messages and then what arrives, until output is closed.
///
/// # Errors
/// When the first connection fails, there is no such conversation, or a later request is refused
/// for good. A lost connection is no error: it is made again.
pub(super) async fn run(reading: &Reading, limit: usize) -> Result<(), Failure> {
    let mut follow = reading.space.follow(&[reading.conversation.as_str()], None).await?;
    let page = reading.newest(PageAt::End, limit).await?;
    page.iter().try_for_each(|message| reading.print(message))?;
    let printed: BTreeSet<String> = page.into_iter().map(|message| message.id).collect();
    loop {
        match follow.next().await? {
            Happening::Arrived(event) => on_event(reading, &printed, event)?,
            Happening::Lost { why, pause } => remark(format_args!(
                "Connection lost ({}); trying again in {} ms.",
                one_line(&why),
                pause.as_millis()
            )),
            Happening::Resumed { region } => {
                remark(format_args!("Following again, at {}.", one_line(&region)));
            }
            Happening::Adopted(adopted) => tell_adopted(&adopted),
            Happening::Gap => remark(
                "The log does not go back as far as this follower was; what happened in between \
                 is not shown. `warbler read` shows it.",
            ),
        }
    }
}

fn on_event(reading: &Reading, printed: &BTreeSet<String>, event: Followed) -> Result<(), Failure> {
    match event {
        Followed::Message { message, .. } if !printed.contains(&message.id) => {
            reading.print(&message)
        }
        Followed::Changed { message, .. } => reading.print_changed(&message),
        Followed::Erased { erased, .. } => reading.print_erased(&erased),
        Followed::Dropped { .. } => {
            remark("The node was faster than this terminal; going on from where it stopped.");
            Ok(())
        }
        Followed::Message { .. }
        | Followed::Ready { .. }
        | Followed::Alias { .. }
        | Followed::Settings { .. } => Ok(()),
    }
}
