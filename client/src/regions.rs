//! The nodes that a client may ask, and which of them it asks at present.
//!
//! Invariant: there is at least one. A client stays where it is served, and goes on to the next
//! only when somebody who was served there has failed; who fails late moves nobody twice.

use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Url;

use crate::error::ClientError;

#[derive(Debug)]
pub(crate) struct Regions {
    urls: Vec<Url>,
    at: AtomicUsize,
}

impl Regions {
    /// # Errors
    /// When there is none, or one is not the URL of a node.
    pub(crate) fn of(urls: &[String]) -> Result<Self, ClientError> {
        let urls = urls.iter().map(|url| parsed(url)).collect::<Result<Vec<_>, _>>()?;
        if urls.is_empty() {
            let reason = "no node is named".to_owned();
            return Err(ClientError::Url { url: String::new(), reason });
        }
        Ok(Self { urls, at: AtomicUsize::new(0) })
    }

    pub(crate) fn len(&self) -> usize {
        self.urls.len()
    }

    /// Whether TLS is spoken with any of them.
    pub(crate) fn speak_tls(&self) -> bool {
        self.urls.iter().any(|url| url.scheme() == "https")
    }

    /// The place in the list that is asked at present.
    pub(crate) fn current(&self) -> usize {
        self.at.load(Ordering::Relaxed) % self.urls.len()
    }

    pub(crate) fn url(&self, place: usize) -> &Url {
        &self.urls[place % self.urls.len()]
    }

    /// Goes on to the one after `place`, unless somebody has moved already.
    pub(crate) fn leave(&self, place: usize) {
        let next = (place + 1) % self.urls.len();
        let _ = self.at.compare_exchange(place, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn parsed(url: &str) -> Result<Url, ClientError> {
    let refused =
        |reason: &str| ClientError::Url { url: url.to_owned(), reason: reason.to_owned() };
    let parsed = Url::parse(url).map_err(|error| refused(&error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(refused("only http:// and https:// are spoken"));
    }
    if !parsed.has_host() || parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(refused("a host and perhaps a port and a path are expected"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(refused("nodes take tokens, and no name with a password"));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        match Regions::of(&[url.to_owned()]) {
            Err(ClientError::Url { reason, .. }) => reason,
            other => panic!("{url} gave {other:?}"),
        }
    }

    #[test]
    fn a_url_that_cannot_be_one_of_a_node_is_refused_before_anything_is_sent() {
        assert!(refused("127.0.0.1:7420").contains("without a base"), "no scheme");
        assert!(refused("ftp://node.example").contains("only http://"));
        assert!(refused("http://node.example/?x=1").contains("a host"));
        assert!(refused("http://ann:secret@node.example").contains("tokens"));
        assert!(matches!(Regions::of(&[]), Err(ClientError::Url { .. })));
    }

    #[test]
    fn who_fails_late_does_not_move_everybody_once_more() {
        let urls = ["http://a", "http://b", "http://c"].map(str::to_owned);
        let regions = Regions::of(&urls).expect("URLs");
        let failed = regions.current();
        regions.leave(failed);
        regions.leave(failed);
        assert_eq!(regions.url(regions.current()).host_str(), Some("b"));
        regions.leave(1);
        regions.leave(2);
        assert_eq!(regions.current(), 0, "the list is a ring");
    }
}
