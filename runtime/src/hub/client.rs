//! Requests to a hub: which files a model has, what they are, and their bytes.

use super::failures;
use super::{Hub, Id, cache, is_file_name};
use crate::error::Error;
use crate::{files, interrupt};
use serde_json::Value;
use std::time::Duration;
use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

/// Tries of one request, or of going on with a download that brings nothing more.
pub(super) const TRIES: u32 = 5;

/// Tries of the first request: where there is no network, nobody wants to wait for it.
const FIRST: u32 = 2;

/// How long a connection may say nothing.
const SILENCE: Duration = Duration::from_secs(20);

/// Redirects in a row.
const HOPS: usize = 8;

/// What a list of files may have at most.
const LARGEST_LIST: u64 = 64 << 20;

/// Asks a hub about one model.
pub(super) struct Client {
    agent: Agent,
    id: Id,
    endpoint: String,
    token: Option<String>,
    pause: Duration,
}

/// A model's files at one commit.
pub(super) struct Listing {
    pub commit: String,
    pub files: Vec<String>,
}

/// A file as it is on the hub.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    pub name: String,
    pub url: String,
    pub etag: String,
    pub size: u64,
}

/// Why a request brought nothing.
pub(super) enum Trouble {
    /// It may be over soon.
    Passing(String),
    Lasting(Error),
}

impl From<Error> for Trouble {
    fn from(e: Error) -> Self {
        Trouble::Lasting(e)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Head,
    /// From this byte on.
    Get(u64),
}

impl Client {
    pub fn new(hub: &Hub, id: &Id) -> Result<Self, Error> {
        if !hub.endpoint.starts_with("https://") && !hub.endpoint.starts_with("http://") {
            return Err(failures::bad_endpoint(&hub.endpoint));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("steer/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(Some(SILENCE))
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE));
        if let Some(path) = &hub.certificates {
            let found = files::read(path)?;
            let certificates = parse_pem(&found).filter_map(|item| match item {
                Ok(PemItem::Certificate(c)) => Some(c),
                _ => None,
            });
            config = config.tls_config(TlsConfig::builder().root_certs(RootCerts::from(certificates)).build());
        }
        // A hub on this machine is not behind a proxy.
        let host = origin(&hub.endpoint).split("://").nth(1).unwrap_or_default().to_owned();
        if ["127.0.0.1", "localhost", "[::1]"].iter().any(|h| host == *h || host.starts_with(&format!("{h}:"))) {
            config = config.proxy(None);
        }
        let (endpoint, token) = (hub.endpoint.clone(), hub.token.clone());
        Ok(Client { agent: config.build().new_agent(), id: id.clone(), endpoint, token, pause: hub.pause })
    }

    pub fn id(&self) -> &Id {
        &self.id
    }

    /// The commit of a revision, and its files.
    pub fn list(&self, revision: &str) -> Result<Listing, Error> {
        let url = format!("{}/api/models/{}/revision/{}", self.endpoint, self.id.name, escaped(revision));
        let text = self.patiently(FIRST, || {
            let mut answer = self.ask(Method::Get(0), &url)?;
            let body = answer.body_mut().with_config().limit(LARGEST_LIST).read_to_vec();
            body.map_err(|e| Trouble::Passing(said(&e)))
        })?;
        let found = serde_json::from_slice::<Value>(&text).ok().and_then(|v| listing(&v));
        found.ok_or_else(|| failures::no_hub(&self.endpoint, &format!("gives no list of the files of `{}`", self.id)))
    }

    /// What a file of a commit is.
    pub fn head(&self, commit: &str, name: &str) -> Result<Remote, Error> {
        let url = format!("{}/{}/resolve/{commit}/{}", self.endpoint, self.id.name, escaped(name));
        let answer = self.patiently(TRIES, || self.ask(Method::Head, &url))?;
        let header = |n: &str| answer.headers().get(n).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let etag = header("x-linked-etag").or_else(|| header("etag"));
        let etag = etag.map(|e| e.trim_start_matches("W/").trim_matches('"').to_owned());
        // It becomes the name of a file.
        let etag =
            etag.filter(|e| is_file_name(e) && e.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)));
        let size = header("x-linked-size").or_else(|| header("content-length")).and_then(|s| s.parse().ok());
        match (etag, size) {
            (Some(etag), Some(size)) => Ok(Remote { name: name.into(), url, etag, size }),
            _ => Err(failures::no_hub(&self.endpoint, &format!("says no etag or size of `{name}`"))),
        }
    }

    /// The bytes of a file from one on. The server may begin at 0 instead, which the status says.
    pub fn get(&self, remote: &Remote, from: u64) -> Result<Response<Body>, Trouble> {
        self.ask(Method::Get(from), &remote.url)
    }

    /// The answer behind all redirects; of `Head`, the last one that says what the file is.
    fn ask(&self, method: Method, url: &str) -> Result<Response<Body>, Trouble> {
        let mut url = url.to_owned();
        for _ in 0..HOPS {
            let own = origin(&url) == origin(&self.endpoint);
            let mut request = match method {
                Method::Head => self.agent.head(&url),
                Method::Get(_) => self.agent.get(&url),
            };
            // Nobody else is told it.
            if let Some(token) = self.token.as_ref().filter(|_| own) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if let Method::Get(from @ 1..) = method {
                request = request.header("range", format!("bytes={from}-"));
            }
            let answer = request.call().map_err(|e| self.trouble(&e))?;
            let status = answer.status().as_u16();
            let header = |n: &str| answer.headers().get(n).and_then(|v| v.to_str().ok());
            match status {
                200 | 206 | 416 => return Ok(answer),
                300..400 => {
                    let Some(next) = header("location").and_then(|l| joined(&url, l)) else {
                        return Err(failures::no_hub(&self.endpoint, "redirects to nowhere").into());
                    };
                    // Where the content is stored, it is known by another name.
                    let told = header("x-linked-etag").or(header("etag")).is_some();
                    if method == Method::Head && told && origin(&next) != origin(&self.endpoint) {
                        return Ok(answer);
                    }
                    url = next;
                }
                // An address of a storage is valid for a while.
                _ if !own => return Err(Trouble::Passing(format!("{} answers {status}", origin(&url)))),
                408 | 429 | 500.. => return Err(Trouble::Passing(format!("it answers {}", answer.status()))),
                _ => {
                    let code = header("x-error-code").unwrap_or_default();
                    let known = self.token.is_some();
                    return Err(failures::refused(&self.id, &self.endpoint, status, code, known).into());
                }
            }
        }
        Err(failures::no_hub(&self.endpoint, "redirects without end").into())
    }

    fn trouble(&self, e: &ureq::Error) -> Trouble {
        match e {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => failures::bad_endpoint(&self.endpoint).into(),
            e => Trouble::Passing(said(e)),
        }
    }

    /// Asks again while the trouble may be a passing one.
    fn patiently<T>(&self, most: u32, mut ask: impl FnMut() -> Result<T, Trouble>) -> Result<T, Error> {
        let mut tries = 0;
        loop {
            match ask() {
                Ok(found) => return Ok(found),
                Err(Trouble::Lasting(e)) => return Err(e),
                Err(Trouble::Passing(what)) => {
                    tries += 1;
                    self.rest(tries, most, &what)?;
                }
            }
        }
    }

    /// Waits after a number of tries that failed; an error after too many of them, or at ctrl-C.
    pub fn rest(&self, tries: u32, most: u32, what: &str) -> Result<(), Error> {
        if tries >= most {
            return Err(failures::unreachable(&self.id, &self.endpoint, what));
        }
        let mut left = self.pause * 2u32.pow(tries - 1);
        while !left.is_zero() {
            if interrupt::requested() {
                return Err(failures::stopped());
            }
            let step = left.min(Duration::from_millis(50));
            std::thread::sleep(step);
            left -= step;
        }
        Ok(())
    }
}

/// What the list of a model's files says.
fn listing(value: &Value) -> Option<Listing> {
    let commit = value.get("sha")?.as_str().filter(|c| cache::is_commit(c))?;
    let files = value.get("siblings")?.as_array()?.iter();
    let files = files.filter_map(|f| f.get("rfilename")?.as_str()).filter(|n| is_file_name(n)).map(str::to_owned);
    Some(Listing { commit: commit.to_owned(), files: files.collect() })
}

/// What went wrong, for a person.
pub(super) fn said(e: &ureq::Error) -> String {
    match e {
        ureq::Error::Io(e) => e.to_string(),
        ureq::Error::HostNotFound => "no machine of that name is known".into(),
        ureq::Error::Timeout(_) => format!("nothing came for {} s", SILENCE.as_secs()),
        e => e.to_string(),
    }
}

/// `https://host:port` of an address.
fn origin(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    url[..end].to_ascii_lowercase()
}

/// Where a redirect leads.
fn joined(from: &str, to: &str) -> Option<String> {
    match to {
        _ if to.starts_with("https://") || to.starts_with("http://") => Some(to.to_owned()),
        _ if to.starts_with("//") => Some(format!("{}:{to}", from.split(':').next()?)),
        _ if to.starts_with('/') => Some(format!("{}{to}", origin(from))),
        _ => None,
    }
}

/// A text as one part of an address.
fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_joined_and_compared() {
        assert_eq!(origin("HTTPS://Hub.co:1/a?b"), "https://hub.co:1");
        assert_eq!(origin("http://hub.co?x"), "http://hub.co");
        let to = |t: &str| joined("http://hub.co/a/b", t);
        assert_eq!(to("/c?d").as_deref(), Some("http://hub.co/c?d"));
        assert_eq!(to("//cdn.co/c").as_deref(), Some("http://cdn.co/c"));
        assert_eq!(to("https://cdn.co/c").as_deref(), Some("https://cdn.co/c"));
        assert_eq!(to("ftp://cdn.co/c"), None);
        assert_eq!(escaped("refs/pr/1 é"), "refs%2Fpr%2F1%20%C3%A9");
    }

    #[test]
    fn a_list_names_a_commit_and_plain_files() {
        let sha = "0123456789abcdef0123456789abcdef01234567";
        let value = serde_json::json!({ "sha": sha, "siblings": [
            { "rfilename": "config.json" }, { "rfilename": "onnx/model.onnx" }, { "rfilename": "../x" }, {},
        ] });
        assert_eq!(listing(&value).unwrap().files, ["config.json"]);
        assert!(listing(&serde_json::json!({ "sha": "../..", "siblings": [] })).is_none());
        assert!(listing(&serde_json::json!({ "sha": sha })).is_none());
    }
}
