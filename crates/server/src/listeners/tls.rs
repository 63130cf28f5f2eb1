//! Certificates, which can be replaced while the server runs.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use arc_swap::ArcSwap;
use rustls::{ServerConfig, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

/// The certificate of one listener.
#[derive(Debug)]
pub(super) struct ReloadableTls {
    files: Tls,
    current: ArcSwap<ServerConfig>,
}

impl ReloadableTls {
    /// Reads the files.
    pub(super) fn load(files: &Tls) -> anyhow::Result<Self> {
        Ok(Self { files: files.clone(), current: ArcSwap::new(read(files)?) })
    }

    /// Reads the files again. On an error the old certificate stays.
    pub(super) fn reload(&self) -> anyhow::Result<()> {
        self.current.store(read(&self.files)?);
        Ok(())
    }

    /// Accepts one connection with the present certificate.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }
}

fn read(files: &Tls) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = read_chain(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("{} holds no private key that can be read", files.key.display()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .with_context(|| format!("{} and {} don't fit", files.certificate.display(), files.key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read_chain(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let context = || format!("{} holds no certificate that can be read", file.display());
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(file).with_context(context)?.collect::<Result<_, _>>().with_context(context)?;
    anyhow::ensure!(!chain.is_empty(), context());
    Ok(chain)
}
