//! A server that speaks as much of the Hugging Face hub as its client asks for: `resolve` with range requests, the
//! commit and the ETag in the headers, large files behind a redirect to another path.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What goes wrong with the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Every request is answered with this status.
    Status(u16),
    /// The first whole answer stops after so many bytes.
    BreaksOffOnce { after: usize },
    /// Every whole answer stops before its first byte.
    BreaksOff,
}

/// What a client asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) authorization: Option<String>,
}

struct Shared {
    /// Path to content.
    files: BTreeMap<String, Vec<u8>>,
    /// Path to the path that it redirects to.
    redirects: BTreeMap<String, String>,
    address: String,
    revision: String,
    fault: Mutex<Fault>,
    requests: Mutex<Vec<Request>>,
}

/// The server; its thread ends with the test's process.
pub(crate) struct Server {
    shared: Arc<Shared>,
}

impl Server {
    /// Serves the files of one repository at one revision; the weights lie behind a redirect.
    pub(crate) fn start<const N: usize>(
        repo: &str,
        revision: &str,
        contents: [(&str, Vec<u8>); N],
        fault: Fault,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (mut files, mut redirects) = (BTreeMap::new(), BTreeMap::new());
        for (name, content) in contents {
            let path = format!("/{repo}/resolve/{revision}/{name}");
            if name.ends_with(".safetensors") {
                let storage = format!("/storage/{name}");
                files.insert(storage.clone(), content);
                redirects.insert(path, storage);
            } else {
                files.insert(path, content);
            }
        }
        let shared = Arc::new(Shared {
            files,
            redirects,
            address,
            revision: revision.to_owned(),
            fault: Mutex::new(fault),
            requests: Mutex::new(Vec::new()),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that hangs up is its own affair.
                stream.and_then(|stream| serving.answer(stream)).ok();
            }
        });
        Self { shared }
    }

    /// `http://host:port`.
    pub(crate) fn address(&self) -> String {
        self.shared.address.clone()
    }

    /// What was asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }
}

impl Shared {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = BTreeMap::new();
        for line in lines {
            let line = line?;
            let Some((key, value)) = line.split_once(':') else { break };
            headers.insert(key.to_ascii_lowercase(), value.trim().to_owned());
        }
        let range = headers.remove("range");
        let authorization = headers.remove("authorization");
        self.requests.lock().unwrap().push(Request { path: path.clone(), range: range.clone(), authorization });

        let fault = *self.fault.lock().unwrap();
        if let Fault::Status(status) = fault {
            return write!(stream, "HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        if let Some(storage) = self.redirects.get(&path) {
            let content = &self.files[storage];
            return write!(
                stream,
                "HTTP/1.1 302 Found\r\nLocation: {}{storage}\r\nX-Repo-Commit: {}\r\nX-Linked-Etag: \"{}\"\r\n\
                 X-Linked-Size: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                self.address,
                self.revision,
                crate::sha256(content),
                content.len(),
            );
        }
        let Some(content) = self.files.get(&path) else {
            return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        };
        let (start, end) = parse_range(range.as_deref(), content.len());
        write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{}\r\nContent-Length: {}\r\n\
             X-Repo-Commit: {}\r\nETag: \"{}\"\r\nConnection: close\r\n\r\n",
            end.saturating_sub(1),
            content.len(),
            end - start,
            self.revision,
            crate::sha256(content),
        )?;
        let whole = path.starts_with("/storage/") && end == content.len();
        let sent = match fault {
            Fault::BreaksOff if whole => 0,
            Fault::BreaksOffOnce { after } if whole => {
                *self.fault.lock().unwrap() = Fault::None;
                after
            }
            _ => end - start,
        };
        stream.write_all(&content[start..start + sent])
    }
}

/// The half-open byte range that a `Range` header asks of `len` bytes.
fn parse_range(range: Option<&str>, len: usize) -> (usize, usize) {
    let Some((start, last)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
        return (0, len);
    };
    let end = last.parse().map_or(len, |last: usize| (last + 1).min(len));
    (start.parse().unwrap_or(0).min(end), end)
}
