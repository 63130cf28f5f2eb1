//! HTTP on one kept connection with next to no work on the client's side, so that a latency is the server's.

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The longest head of a response that is read.
const MAX_HEAD: usize = 16 * 1024;

/// One kept connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    token: String,
    buffer: Vec<u8>,
}

impl Wire {
    /// Connects to a server as the user of an access token.
    pub(super) async fn connect(base: &str, token: &str) -> anyhow::Result<Self> {
        let address = base.strip_prefix("http://").context("plain HTTP")?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, token: token.to_owned(), buffer: Vec::with_capacity(64 * 1024) })
    }

    /// One request; the body of a success.
    pub(super) async fn call(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<&[u8]> {
        let (head, text) = self.ask(method, path, body).await?;
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")).context("a length")?;
        let end = head + length.trim().parse::<usize>()?;
        while self.buffer.len() < end {
            anyhow::ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection was closed");
        }
        Ok(&self.buffer[head..end])
    }

    /// One request whose answer comes in pieces and is not kept; its bytes on the wire, without the head.
    pub(super) async fn drain(&mut self, path: &str) -> anyhow::Result<u64> {
        const END: &[u8] = b"\r\n0\r\n\r\n";
        let (head, text) = self.ask("GET", path, "").await?;
        anyhow::ensure!(text.contains("transfer-encoding: chunked"), "the answer does not come in pieces: {text}");
        self.buffer.drain(..head);
        let mut bytes = 0;
        while !self.buffer.ends_with(END) {
            // The end may come in two parts.
            let read = self.buffer.len().saturating_sub(END.len());
            self.buffer.drain(..read);
            bytes += read as u64;
            anyhow::ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection was closed");
        }
        Ok(bytes + self.buffer.len() as u64)
    }

    /// Sends a request and reads the head of its answer, which is a success: where it ends, and what it says in small letters.
    async fn ask(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<(usize, String)> {
        let (token, length) = (&self.token, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: harness.test\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        let head = self.read_head().await?;
        let text = std::str::from_utf8(&self.buffer[..head])?.to_ascii_lowercase();
        anyhow::ensure!(text.starts_with("http/1.1 200"), "refused: {}", String::from_utf8_lossy(&self.buffer));
        Ok((head, text))
    }

    /// Reads until the head of the response is there; where it ends.
    async fn read_head(&mut self) -> anyhow::Result<usize> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok(at + 4);
            }
            anyhow::ensure!(self.buffer.len() < MAX_HEAD, "the head is too long");
            anyhow::ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection was closed");
        }
    }
}
