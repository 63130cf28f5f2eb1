//! What servers need that federate on loopback: a certificate authority of their own, and one certificate for all, for they differ by their ports.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context;

/// The authority's certificate, and the servers' certificate and key, in a folder.
#[derive(Clone, Debug)]
pub struct Loopback {
    folder: PathBuf,
}

impl Loopback {
    /// Makes them, by `openssl`.
    ///
    /// # Errors
    /// The folder can't be written, or there is no `openssl`.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let made = Self { folder: folder.to_owned() };
        fs::write(folder.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1")?;
        made.openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=Loopback -keyout ca.key -out ca.pem")?;
        made.openssl("req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout tls.key -out tls.csr")?;
        made.openssl(
            "x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out tls.pem",
        )?;
        Ok(made)
    }

    fn openssl(&self, arguments: &str) -> anyhow::Result<()> {
        let mut command = Command::new("openssl");
        command.args(arguments.split_ascii_whitespace()).current_dir(&self.folder).stderr(Stdio::null());
        let status = command.status().context("openssl runs")?;
        anyhow::ensure!(status.success(), "openssl {arguments}: {status}");
        Ok(())
    }

    /// The part of a server's configuration by which it meets the others at a port.
    pub(crate) fn config(&self, port: u16) -> String {
        format!(
            r#"
[[listeners]]
bind = "127.0.0.1:{port}"
tls = {{ certificate = "{folder}/tls.pem", key = "{folder}/tls.key" }}

[federation]
extra_ca_certificates = ["{folder}/ca.pem"]
allow_private_addresses = true
"#,
            folder = self.folder.display(),
        )
    }
}
