//! A hub of models on this machine, whose answers a test can spoil.

use sha1::{Digest, Sha1};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub token: Option<String>,
    /// Where the wanted part begins.
    pub from: Option<usize>,
}

#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// After so many bytes the connection ends.
    pub cut: Option<usize>,
    /// What the connection waits there for, before it ends.
    pub wait: Duration,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Answer { status, ..Answer::default() }
    }

    pub fn code(status: u16, code: &str) -> Self {
        Answer { status, headers: vec![("x-error-code", code.into())], ..Answer::default() }
    }

    pub fn to(place: String) -> Self {
        Answer { status: 302, headers: vec![("location", place)], ..Answer::default() }
    }
}

/// A model's files: name, content, and whether it is stored as a large file.
#[derive(Clone)]
pub struct Files(pub Vec<(&'static str, Vec<u8>, bool)>);

impl Files {
    pub fn get(&self, name: &str) -> &[u8] {
        &self.0.iter().find(|f| f.0 == name).unwrap().1
    }

    pub fn etag(&self, name: &str) -> String {
        let (_, bytes, large) = self.0.iter().find(|f| f.0 == name).unwrap();
        match large {
            true => steer::checkpoint::sha256(bytes),
            false => {
                let mut sum = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
                sum.update(bytes);
                sum.finalize().iter().map(|b| format!("{b:02x}")).collect()
            }
        }
    }

    /// As huggingface.co answers, for the model `org/name`.
    pub fn answer(&self, r: &Request) -> Answer {
        let (main, commit) = ("/api/models/org/name/revision/main".to_owned(), format!("/org/name/resolve/{COMMIT}/"));
        if r.path == main || r.path == main.replace("main", COMMIT) {
            let list: Vec<_> = self.0.iter().map(|f| serde_json::json!({ "rfilename": f.0 })).collect();
            let body = serde_json::json!({ "sha": COMMIT, "siblings": list }).to_string().into_bytes();
            return Answer { status: 200, body, ..Answer::default() };
        }
        let name = r.path.strip_prefix(&commit).filter(|n| self.0.iter().any(|f| f.0 == *n));
        let Some(name) = name else { return Answer::code(404, "RepoNotFound") };
        let bytes = self.get(name);
        let mut headers = vec![("etag", format!("\"{}\"", self.etag(name))), ("x-repo-commit", COMMIT.into())];
        let from = r.from.unwrap_or(0);
        if r.from.is_some() {
            headers.push(("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())));
        }
        let status = if r.from.is_some() { 206 } else { 200 };
        Answer { status, headers, body: bytes[from..].to_vec(), ..Answer::default() }
    }
}

/// A server in a thread of its own.
pub struct Served {
    pub endpoint: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Served {
    pub fn new(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &log, answer.as_ref()));
            }
        });
        Served { endpoint, seen }
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests for the bytes of a file.
    pub fn gets(&self, name: &str) -> Vec<Request> {
        self.seen().into_iter().filter(|r| r.method == "GET" && r.path.ends_with(name)).collect()
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Answer) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let mut request = Request { method, path, token: None, from: None };
    for line in lines.take_while(|l| !l.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.token = Some(value.to_owned()),
            "range" => request.from = value.trim_start_matches("bytes=").trim_end_matches('-').parse().ok(),
            _ => {}
        }
    }
    log.lock().unwrap().push(request.clone());
    let a = answer(&request);
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\ncontent-length: {}\r\n", a.status, a.body.len());
    a.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    let mut out = (head + "\r\n").into_bytes();
    if request.method != "HEAD" {
        out.extend_from_slice(&a.body[..a.cut.unwrap_or(a.body.len())]);
    }
    // The other side may be gone.
    let _ = stream.write_all(&out);
    std::thread::sleep(a.wait);
}
