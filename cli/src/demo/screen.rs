//! How the demo is told: short lines with the time that has passed, and tables at the end.
//!
//! Styled on a terminal, plain elsewhere. It must not know how a figure came about. Invariant: words that people wrote reach
//! the terminal only as one harmless line.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use tokio::time::Instant;

use super::checks::Finding;
use super::figures::Figures;
use super::ledger::Glimpse;
use super::stage::PLACES;
use crate::failure::Failure;
use crate::output;

/// The most characters of a body that are shown.
const MAX_SHOWN: usize = 60;

/// Where the demo is told.
pub(super) struct Screen {
    began: Instant,
    styled: bool,
    /// Standard output belongs to the JSON.
    aside: bool,
}

impl Screen {
    /// A screen whose clock begins now. With `json` everything is told on standard error.
    pub(super) fn new(json: bool) -> Self {
        let terminal = if json { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { began: Instant::now(), styled: terminal && !plain, aside: json }
    }

    /// What this is.
    ///
    /// # Errors
    /// When the output is closed; so do all others here.
    pub(super) fn title(&self) -> Result<(), Failure> {
        self.line(&self.style("1", "Warbler: three regions, one conversation, on this machine"))
    }

    /// A new act begins.
    pub(super) fn act(&self, title: &str) -> Result<(), Failure> {
        self.line("")?;
        self.line(&self.style("1;36", title))
    }

    /// Something happened.
    pub(super) fn say(&self, text: impl fmt::Display) -> Result<(), Failure> {
        let time = format!("{:>6.1} s ", self.began.elapsed().as_secs_f64());
        self.line(&format!("{} {text}", self.style("2", &time)))
    }

    /// Somebody said something, and it was seen elsewhere.
    pub(super) fn glimpse(&self, glimpse: &Glimpse) -> Result<(), Failure> {
        let seen = glimpse.seen.iter();
        let seen: Vec<String> = seen
            .map(|(region, after)| format!("{} +{} ms", PLACES[*region].region, after.as_millis()))
            .collect();
        let seen = self.style("2", &format!("→ {}", seen.join(", ")));
        let said = quoted(glimpse.author.as_str(), &glimpse.body);
        self.say(format!("{:<9} {said}  {seen}", PLACES[glimpse.region].region))
    }

    /// A promise was checked.
    pub(super) fn finding(&self, finding: &Finding) -> Result<(), Failure> {
        match &finding.broken {
            None => self.say(format!("{} {}", self.style("32", "✓"), finding.claim)),
            Some(how) => self.say(format!("{} {}: {how}", self.style("1;31", "✗"), finding.claim)),
        }
    }

    /// The figures, as tables.
    pub(super) fn figures(&self, figures: &Figures) -> Result<(), Failure> {
        self.act("Figures")?;
        figures.lines().iter().try_for_each(|line| self.line(line))
    }

    fn line(&self, text: &str) -> Result<(), Failure> {
        if self.aside {
            output::remark(text);
            return Ok(());
        }
        output::line(text)
    }

    fn style(&self, code: &str, text: &str) -> String {
        if self.styled { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// What somebody said, on one line that is not too long.
pub(super) fn quoted(author: &str, body: &str) -> String {
    let mut shown: String = body.chars().take(MAX_SHOWN).collect();
    if shown.len() < body.len() {
        shown.push('…');
    }
    format!("{}: “{}”", output::one_line(author), output::one_line(&shown))
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in milliseconds, with one digit after the point.
pub(super) fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

/// A time in seconds, with two digits after the point.
pub(super) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn what_people_say_is_cut_and_made_harmless() {
        assert_eq!(quoted("anna", "hi\x1b[2J"), r"anna: “hi\u{1b}[2J”");
        let long = quoted("anna", &"ö".repeat(200));
        assert!(long.ends_with("ö…”") && long.chars().count() < 80, "{long}");
        assert!(!quoted("anna", &"x".repeat(MAX_SHOWN)).contains('…'));
    }
}
