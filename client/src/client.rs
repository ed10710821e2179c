//! A client: which nodes it knows, how it proves who asks, and what it may ask of a node itself.
//!
//! Invariant: a token never leaves for another host than those named, and is never printed.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Certificate, Method};

use crate::call::Call;
use crate::error::ClientError;
use crate::patience::Patience;
use crate::regions::Regions;
use crate::space::Space;
use crate::wire::{Status, Swept, Verified};

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a node may read its store back: an hour.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// A client of one node, or of several that hold the same spaces. Clones share connections, and
/// which node they are served by.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    http: reqwest::Client,
    regions: Regions,
    patience: Patience,
    adopt: bool,
}

/// What a client is made from.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    regions: Vec<String>,
    token: Option<String>,
    patience: Patience,
    adopt: bool,
    authorities: Vec<Vec<u8>>,
}

impl Builder {
    /// Adds nodes by their URLs, the nearest first.
    #[must_use]
    pub fn regions<T: Into<String>>(mut self, urls: impl IntoIterator<Item = T>) -> Self {
        self.regions.extend(urls.into_iter().map(Into::into));
        self
    }

    /// Sends this bearer token.
    #[must_use]
    pub fn token(mut self, token: Option<String>) -> Self {
        self.token = token;
        self
    }

    /// Tries so long.
    #[must_use]
    pub fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Goes on from what a region holds when it does not catch up with the session in time,
    /// instead of failing with `behind`. [`crate::Session::take_adopted`] says what was given up.
    #[must_use]
    pub fn adopt(mut self, adopt: bool) -> Self {
        self.adopt = adopt;
        self
    }

    /// Trusts nodes whose TLS certificate one of these authorities has signed (PEM), and no other.
    #[must_use]
    pub fn authorities(mut self, pem: Vec<u8>) -> Self {
        self.authorities.push(pem);
        self
    }

    /// The client. Connects to nothing.
    ///
    /// # Errors
    /// When no node is named, or a URL, the token or a certificate cannot be used.
    pub fn build(self) -> Result<Client, ClientError> {
        let regions = Regions::of(&self.regions)?;
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, bearer(token)?);
        }
        // TLS needs a provider of cryptography; who has chosen one for the process keeps it.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        // A proxy from the environment would stand between the user and the local node, and a
        // redirection could lead the token elsewhere.
        let mut http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(headers)
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT);
        // Without TLS the system's authorities are not needed, and need not be there.
        if !self.authorities.is_empty() || !regions.speak_tls() {
            let mut trusted = Vec::new();
            for pem in &self.authorities {
                trusted.extend(Certificate::from_pem_bundle(pem).map_err(certificate)?);
            }
            http = http.tls_certs_only(trusted);
        }
        let http = http.build().map_err(certificate)?;
        let Self { patience, adopt, .. } = self;
        Ok(Client { shared: Arc::new(Shared { http, regions, patience, adopt }) })
    }
}

impl Client {
    /// Makes a client step by step.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A client of the node at `url`, which sends `token` if there is one. Connects to nothing.
    ///
    /// # Errors
    /// When the URL or the token cannot be used.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, ClientError> {
        Self::builder().regions([url]).token(token.map(str::to_owned)).build()
    }

    /// The URL of the node that is asked at present.
    #[must_use]
    pub fn region(&self) -> String {
        self.regions().url(self.regions().current()).to_string()
    }

    /// The state of the node, as JSON and not yet looked at.
    ///
    /// # Errors
    /// When no node can be reached, or it refuses, or is none.
    pub async fn status_json(&self) -> Result<serde_json::Value, ClientError> {
        Ok(self.ask(&Call::new(Method::GET, &["status"]), None).await?.value)
    }

    /// The state of the node.
    ///
    /// # Errors
    /// As [`Self::status_json`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        Ok(self.ask(&Call::new(Method::GET, &["status"]), None).await?.value)
    }

    /// Has the node read its whole store back, however long that takes.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses.
    pub async fn verify(&self) -> Result<Verified, ClientError> {
        let call = Call::new(Method::POST, &["verify"]).waits(VERIFY_TIMEOUT);
        Ok(self.ask(&call, None).await?.value)
    }

    /// Makes what was erased leave the node's files, and waits for it no longer than `patience`.
    ///
    /// # Errors
    /// When the node cannot be reached or fails at it.
    pub async fn sweep(&self, patience: Duration) -> Result<Swept, ClientError> {
        let call = Call::new(Method::POST, &["erasures", "sweep"])
            .query("timeout_ms", patience.as_millis())
            .waits(patience);
        Ok(self.ask(&call, None).await?.value)
    }

    /// The space called `name`, in a session of its own.
    #[must_use]
    pub fn space(&self, name: &str) -> Space {
        Space::new(self.clone(), name, true)
    }

    /// The first space of the node: the one that is meant where none is named.
    ///
    /// # Errors
    /// When the node cannot be reached, refuses, or serves no space.
    pub async fn first_space(&self) -> Result<Space, ClientError> {
        let first = self.status().await?.spaces.into_iter().next();
        let first = first.ok_or_else(|| ClientError::NoSpace { url: self.region() })?;
        Ok(Space::new(self.clone(), &first.name, false))
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.shared.http
    }

    pub(crate) fn regions(&self) -> &Regions {
        &self.shared.regions
    }

    pub(crate) fn patience(&self) -> &Patience {
        &self.shared.patience
    }

    pub(crate) fn adopts(&self) -> bool {
        self.shared.adopt
    }
}

fn certificate(error: reqwest::Error) -> ClientError {
    ClientError::Certificate { source: Box::new(error) }
}

/// The value of the header that proves who asks.
fn bearer(token: &str) -> Result<HeaderValue, ClientError> {
    let refused = |reason: &str| ClientError::Token { reason: reason.to_owned() };
    if token.is_empty() {
        return Err(refused("it is empty"));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused("it holds spaces or other bytes than visible ASCII"));
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| refused("it does not fit into a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_in_paths_and_a_base_path_is_kept() {
        let client = Client::new("http://127.0.0.1:7420/chat/", None).expect("a valid URL");
        let path = ["spaces", "main", "conversations", "größe 1?#%"];
        let request = Call::new(Method::GET, &path).to(&client, 0).build().expect("a request");
        assert_eq!(
            request.url().as_str(),
            "http://127.0.0.1:7420/chat/v1/spaces/main/conversations/gr%C3%B6%C3%9Fe%201%3F%23%25"
        );
    }

    #[test]
    fn a_token_that_could_smuggle_a_header_is_refused() {
        for token in ["", "a b", "a\r\nX: y", "größe"] {
            assert!(matches!(bearer(token), Err(ClientError::Token { .. })), "{token:?}");
        }
        assert!(bearer("eyJ.a-b_c").expect("a token").is_sensitive());
    }

    #[test]
    fn what_is_no_certificate_is_refused_before_anything_is_sent() {
        let builder = Client::builder().regions(["https://node.example"]);
        let text = b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n".to_vec();
        let refused = builder.authorities(text).build();
        assert!(matches!(refused, Err(ClientError::Certificate { .. })), "{refused:?}");
    }
}
