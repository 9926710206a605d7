//! A headless Chromium, driven over the WebDriver protocol of chromedriver.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Longer than a browser takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one tab. Dropping it ends it.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    /// Starts the browser with its profile in `folder`; `None`, with the reason printed, where there is none.
    pub(crate) fn start(folder: &Path) -> Option<Self> {
        let spawned = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut driver = match spawned {
            Ok(driver) => driver,
            Err(error) => {
                println!("skipped: chromedriver cannot be started ({error}); install chromium-driver");
                return None;
            }
        };
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        // `ChromeDriver was started successfully on port 12345.`, after a line that repeats the port 0.
        let port = lines.find_map(|line| {
            line.split("successfully on port ").nth(1).and_then(|port| port.trim_end_matches('.').parse().ok())
        });
        // It must not come to a closed pipe when it has more to say.
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Self { driver, port: port.expect("chromedriver says its port"), session: String::new() };
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            &format!("--user-data-dir={}", folder.join("profile").display()),
        ];
        let options = json!({ "args": arguments });
        let wanted = json!({ "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } });
        let answer = browser.ask("POST", "/session", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        match answer.and_then(|value| Ok(value["sessionId"].as_str().ok_or("no session")?.to_owned())) {
            Ok(session) => browser.session = session,
            Err(error) => {
                println!("skipped: Chromium does not start: {error}");
                return None;
            }
        }
        Some(browser)
    }

    pub(crate) fn open(&self, address: &str) {
        self.command("POST", "/url", &json!({ "url": address }));
    }

    /// The value of a JavaScript expression.
    pub(crate) fn eval(&self, expression: &str) -> Value {
        self.command("POST", "/execute/sync", &json!({ "script": format!("return {expression}"), "args": [] }))
    }

    /// Waits until an expression is true.
    pub(crate) fn until(&self, expression: &str) {
        let begun = Instant::now();
        while self.eval(expression) != true {
            let text = self.eval("document.body.innerText");
            assert!(begun.elapsed() < PATIENCE, "never became true: {expression}\n{text}\n{:?}", self.console());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Gives the tab a size in CSS pixels, as a phone's or a desktop's, and a colour scheme.
    pub(crate) fn emulate(&self, [width, height]: [u32; 2], phone: bool, scheme: &str) {
        let scale = if phone { 2 } else { 1 };
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// Writes what the tab shows as PNG, and says where.
    pub(crate) fn screenshot(&self, path: &Path) {
        let answer = self.devtools("Page.captureScreenshot", &json!({ "captureBeyondViewport": true }));
        std::fs::write(path, STANDARD.decode(answer["data"].as_str().unwrap()).unwrap()).unwrap();
        println!("{}", path.display());
    }

    /// What the browser wrote to its console since the last call: errors, warnings, violations of the policy.
    pub(crate) fn console(&self) -> Vec<String> {
        let log = self.command("POST", "/se/log", &json!({ "type": "browser" }));
        log.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let path = format!("/session/{}{path}", self.session);
        self.ask(method, &path, body).unwrap_or_else(|error| panic!("{path} {body}: {error}"))
    }

    /// One request to chromedriver.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let body = body.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
        let rest = format!("Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        stream.write_all((head + &rest).as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).map_err(|error| error.to_string())?;
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().unwrap();
                }
                None if line.trim_end().is_empty() => break,
                _ => (),
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer).map_err(|error| error.to_string())?;
        let value = serde_json::from_slice::<Value>(&answer).unwrap()["value"].take();
        match value.get("error").and(value.get("message")) {
            Some(message) => Err(message.to_string()),
            None => Ok(value),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // Chromedriver ends the browser; without it the browser would stay.
            let _ = self.ask("DELETE", &format!("/session/{}", self.session), &json!({}));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
