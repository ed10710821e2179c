//! Taking requests apart: names in paths, queries, JSON bodies, headers.
//!
//! Nothing here knows what is asked for. Invariant: whatever is wrong with a request becomes a
//! problem document that names the part and the value, before anything is done.

use std::str::FromStr;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, Request, header};
use futures_util::StreamExt;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use warbler_store::name::Name;
use warbler_store::record::{ContentType, MAX_BODY_BYTES};

use super::Limits;
use super::problem::{Kind, Problem};

/// The most bytes of a request's body: a message's body in which JSON escapes every byte as six,
/// and 16 KiB for the rest.
pub(super) const MAX_REQUEST_BYTES: usize = 6 * MAX_BODY_BYTES + 16 * 1024;
/// What is read and thrown away of a body that is too large, so that its sender gets to read the
/// answer: 4 MiB.
const MAX_DISCARDED_BYTES: usize = 4 * 1024 * 1024;
/// The parameter that every call under a space takes; `session` reads it.
pub(super) const SESSION_WAIT: &str = "session_wait_ms";
/// Parameters of one query.
const MAX_PARAMETERS: usize = 1024;

/// A name in a path or a body.
pub(super) fn name(text: &str) -> Result<Name, Problem> {
    Ok(text.parse::<Name>()?)
}

/// The MIME type of a message.
pub(super) fn content_type(text: &str) -> Result<ContentType, Problem> {
    text.parse().map_err(|error| refused(format!("`content_type`: {error}")))
}

/// The parameters of a query. Each call takes those it knows, then calls [`Parameters::end`].
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// The parameters of a request.
    ///
    /// # Errors
    /// When the query is not UTF-8, or has too many parameters.
    pub(super) fn of<B>(request: &Request<B>) -> Result<Self, Problem> {
        let query = request.uri().query().unwrap_or_default();
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let mut parameters = Vec::new();
        for pair in pairs {
            if parameters.len() == MAX_PARAMETERS {
                return Err(refused(format!("a query of more than {MAX_PARAMETERS} parameters")));
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.push((decoded(key)?, decoded(value)?));
        }
        Ok(Self(parameters))
    }

    /// Takes all values of `key`.
    pub(super) fn all(&mut self, key: &str) -> Vec<String> {
        self.0.extract_if(.., |(other, _)| other == key).map(|(_, value)| value).collect()
    }

    /// Takes the value of `key`, if it is given.
    pub(super) fn one(&mut self, key: &str) -> Result<Option<String>, Problem> {
        let mut values = self.all(key);
        if values.len() > 1 {
            return Err(refused(format!("`{key}` is given {} times", values.len())));
        }
        Ok(values.pop())
    }

    /// Takes the value of `key` as an id or a name.
    pub(super) fn parsed<T: FromStr<Err: Into<Problem>>>(
        &mut self,
        key: &str,
    ) -> Result<Option<T>, Problem> {
        self.one(key)?.map(|text| text.parse().map_err(Into::into)).transpose()
    }

    /// Takes the value of `key` as a number within `range`, or gives `default`.
    pub(super) fn number(
        &mut self,
        key: &str,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, Problem> {
        let Some(text) = self.one(key)? else { return Ok(default) };
        text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            let (least, most) = range.into_inner();
            refused(format!("`{key}` is `{text}`: a number from {least} to {most} expected"))
        })
    }

    /// Takes the value of `key` as `true` or `false`, which it is if it is not given.
    pub(super) fn flag(&mut self, key: &str) -> Result<bool, Problem> {
        match self.one(key)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(text) => Err(refused(format!("`{key}` is `{text}`: `true` or `false` expected"))),
        }
    }

    /// Refuses what is left.
    pub(super) fn end(mut self) -> Result<(), Problem> {
        self.all(SESSION_WAIT);
        match self.0.first() {
            Some((key, _)) => Err(refused(format!("there is no query parameter `{key}` here"))),
            None => Ok(()),
        }
    }
}

fn decoded(text: &str) -> Result<String, Problem> {
    let spaced = text.replace('+', " ");
    let text = percent_decode_str(&spaced).decode_utf8();
    text.map(Into::into).map_err(|_| refused(format!("the query has `{spaced}`: not UTF-8")))
}

/// The JSON of a request's body.
///
/// # Errors
/// When it does not come in time, is too large, or is not what is expected.
pub(super) async fn json<T: DeserializeOwned>(
    limits: &Limits,
    request: Request<Body>,
) -> Result<T, Problem> {
    let content_type = text_header(request.headers(), &header::CONTENT_TYPE)?;
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let detail = format!("the content type is `{essence}`");
        return Err(Problem::new(Kind::UnsupportedMediaType, detail)
            .hint("send JSON with `Content-Type: application/json`"));
    }
    let bytes = match tokio::time::timeout(limits.body, read(request.into_body())).await {
        Ok(bytes) => bytes?,
        Err(_) => {
            let detail = format!("the body did not come within {:?}", limits.body);
            return Err(Problem::new(Kind::RequestTimeout, detail));
        }
    };
    serde_json::from_slice(&bytes).map_err(|error| refused(format!("the body: {error}")))
}

async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    let mut pieces = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut length = 0;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| refused(format!("the body cannot be read: {error}")))?;
        length += piece.len();
        if length <= MAX_REQUEST_BYTES {
            bytes.extend_from_slice(&piece);
        } else if length > MAX_DISCARDED_BYTES {
            break;
        }
    }
    if length > MAX_REQUEST_BYTES {
        let detail = format!("a request may have {MAX_REQUEST_BYTES} bytes, this one has more");
        return Err(Problem::new(Kind::BodyTooLarge, detail)
            .hint(format!("the body of a message may have {MAX_BODY_BYTES} bytes")));
    }
    Ok(bytes)
}

/// The value of a header that may be given once, as bytes.
pub(super) fn header<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a [u8]>, Problem> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(refused(format!("the header `{name}` is given more than once")));
    }
    Ok(first.map(|value| value.as_bytes()))
}

/// The value of a header that may be given once, as text.
pub(super) fn text_header<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, Problem> {
    let value = header(headers, name)?;
    let text = value.map(std::str::from_utf8).transpose();
    text.map_err(|_| refused(format!("the header `{name}` is not UTF-8")))
}

/// A request that is malformed.
pub(super) fn refused(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::InvalidRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(query: &str) -> Result<Parameters, Problem> {
        let uri = format!("/x?{query}");
        Parameters::of(&Request::builder().uri(uri).body(()).expect("a request"))
    }

    #[test]
    fn a_query_is_decoded_and_what_nobody_takes_is_refused() {
        let mut query =
            parameters("a=gr%C3%B6%C3%9Fe+1&b=2&b=3&session_wait_ms=1").expect("a query");
        assert_eq!(query.one("a").expect("once"), Some("größe 1".to_owned()));
        assert!(query.one("b").is_err(), "given twice");
        query.end().expect("nothing left");

        let mut query = parameters("limit=0&x=1").expect("a query");
        assert!(query.number("limit", 50, 1..=500).is_err(), "below the range");
        assert!(query.end().is_err(), "x is left");
        assert!(parameters("a=%ff").is_err(), "not UTF-8");
    }
}
