//! The text of server-sent events, cut into events as it arrives.
//!
//! Knows the format (WHATWG HTML, section 9.2) and nothing of what the events mean. Invariant:
//! the events do not depend on where the bytes were cut into pieces, and never more than
//! [`MAX_EVENT_BYTES`] of one event are held. It departs from browsers in one thing: an event
//! without data is delivered too when it has a name, because the name may say it all.

use std::collections::VecDeque;

/// The most bytes one event may have, its field names included. A body of 64 KiB in which every
/// byte is escaped for JSON takes 384 KiB.
pub(crate) const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Event {
    /// What kind of event it is; empty when the text named none.
    pub(crate) name: String,
    /// The position to resume after, when this event carries one.
    pub(crate) id: Option<String>,
    /// The data, lines joined by line feeds.
    pub(crate) data: String,
}

/// An event grew beyond [`MAX_EVENT_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event has more than {MAX_EVENT_BYTES} bytes")]
pub(crate) struct EventTooLong;

/// Bytes in, events out.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// The event that has not ended yet.
    event: Event,
    /// Whether `event` has got a `data` field, which may be empty.
    has_data: bool,
    /// Bytes of the lines of `event` that have ended.
    event_bytes: usize,
    /// The last byte was a carriage return: a line feed after it belongs to the same line end.
    after_carriage_return: bool,
    /// A line has ended: a byte order mark is no longer one.
    started: bool,
    ready: VecDeque<Event>,
}

impl Parser {
    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// When an event is longer than [`MAX_EVENT_BYTES`]; the stream cannot be used any more.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), EventTooLong> {
        for &byte in bytes {
            let continues_line_end = self.after_carriage_return && byte == b'\n';
            self.after_carriage_return = byte == b'\r';
            match byte {
                b'\n' if continues_line_end => {}
                b'\n' | b'\r' => self.on_line_end(),
                other => {
                    if self.event_bytes + self.line.len() >= MAX_EVENT_BYTES {
                        return Err(EventTooLong);
                    }
                    self.line.push(other);
                }
            }
        }
        Ok(())
    }

    /// The next whole event, in the order of the stream.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    fn on_line_end(&mut self) {
        let line = std::mem::take(&mut self.line);
        let mut text = String::from_utf8_lossy(&line).into_owned();
        if !std::mem::replace(&mut self.started, true)
            && let Some(rest) = text.strip_prefix('\u{feff}')
        {
            text = rest.to_owned();
        }
        if text.is_empty() {
            return self.on_event_end();
        }
        // A comment counts for nothing, or hours of keep-alives would fill the bound.
        if text.starts_with(':') {
            return;
        }
        self.event_bytes += line.len();
        let (field, value) = text.split_once(':').unwrap_or((&text, ""));
        self.on_field(field, value.strip_prefix(' ').unwrap_or(value));
    }

    fn on_field(&mut self, field: &str, value: &str) {
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.has_data = true;
                self.event.data.push_str(value);
            }
            _ => {}
        }
    }

    fn on_event_end(&mut self) {
        let event = std::mem::take(&mut self.event);
        let has_data = std::mem::take(&mut self.has_data);
        self.event_bytes = 0;
        if has_data || !event.name.is_empty() {
            self.ready.push_back(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, id: Option<&str>, data: &str) -> Event {
        Event { name: name.to_owned(), id: id.map(str::to_owned), data: data.to_owned() }
    }

    fn parse(pieces: &[&[u8]]) -> Vec<Event> {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for piece in pieces {
            parser.push(piece).expect("short events");
            events.extend(std::iter::from_fn(|| parser.next_event()));
        }
        events
    }

    /// Every line end, a comment, an unknown field, data of two lines, a colon in a value, and
    /// characters of two and four bytes.
    const STREAM: &str = "\u{feff}event: ready\nid: t1\ndata: {}\n\n: keep-alive\n\r\n\
        event:message\r\nid:t2\r\ndata: {\"body\":\"größe: 🐦\"}\r\n\r\n\
        retry: 5\rdata: one\rdata: two\r\rdata\n\nevent: dropped\nid: t3\n\n";

    fn expected() -> Vec<Event> {
        vec![
            event("ready", Some("t1"), "{}"),
            event("message", Some("t2"), "{\"body\":\"größe: 🐦\"}"),
            event("", None, "one\ntwo"),
            event("", None, ""),
            event("dropped", Some("t3"), ""),
        ]
    }

    #[test]
    fn the_events_are_the_same_wherever_the_stream_is_cut_in_two() {
        let bytes = STREAM.as_bytes();
        for place in 0..=bytes.len() {
            let (front, back) = bytes.split_at(place);
            assert_eq!(parse(&[front, back]), expected(), "cut at byte {place}");
        }
    }

    #[test]
    fn the_events_are_the_same_when_every_byte_comes_alone() {
        let pieces: Vec<&[u8]> = STREAM.as_bytes().chunks(1).collect();
        assert_eq!(parse(&pieces), expected());
    }

    #[test]
    fn an_event_that_has_not_ended_is_not_delivered() {
        assert_eq!(parse(&[b"event: message\ndata: half"]), []);
    }

    #[test]
    fn an_event_that_never_ends_is_refused_at_the_bound() {
        let mut one_line = Parser::default();
        assert_eq!(one_line.push(&vec![b'x'; MAX_EVENT_BYTES]), Ok(()));
        assert_eq!(one_line.push(b"x"), Err(EventTooLong));

        let mut many_lines = Parser::default();
        let kilobyte = format!("data: {}\n", "y".repeat(1024));
        let refused = (0..2048).find(|_| many_lines.push(kilobyte.as_bytes()).is_err());
        assert_eq!(refused, Some(MAX_EVENT_BYTES / 1030));
    }

    #[test]
    fn keep_alive_comments_never_fill_the_bound() {
        let mut parser = Parser::default();
        let comment = format!(":{}\n", "z".repeat(1024));
        for _ in 0..2048 {
            parser.push(comment.as_bytes()).expect("comments are not part of an event");
        }
        parser.push(b"data: still here\n\n").expect("short");
        assert_eq!(parser.next_event(), Some(event("", None, "still here")));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced_and_an_id_with_nul_is_ignored() {
        assert_eq!(parse(&[b"id: a\0b\ndata: \xff\n\n"]), [event("", None, "\u{fffd}")]);
    }
}
