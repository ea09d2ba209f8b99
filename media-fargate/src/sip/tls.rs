//! TLS to trunks: the platform's root certificates (or those given), the project's own provider of cryptography, and no
//! way around either. Without roots there is no connection.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use rsipstack::{
    Error,
    platform::tls::{TlsClientConfig, TlsConnector, TlsStream},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};
use rustls_platform_verifier::Verifier;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    net::TcpStream,
    sync::Mutex,
};

type Connection = tokio_rustls::client::TlsStream<TcpStream>;

/// The rules of TLS: certificates are judged by the platform's verifier, or by `roots` alone when there are any.
///
/// # Errors
/// When the platform has no root certificates, or `roots` cannot be read.
pub fn rules(roots: &[CertificateDer<'static>]) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let rules = if roots.is_empty() {
        let verifier = Arc::new(Verifier::new(provider)?);
        // The name of the method that takes a verifier.
        builder.dangerous().with_custom_certificate_verifier(verifier)
    } else {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.clone())?;
        }
        builder.with_root_certificates(store)
    };
    Ok(rules.with_no_client_auth())
}

/// Opens connections under these rules.
pub struct Connector(pub Arc<ClientConfig>);

#[async_trait]
impl TlsConnector for Connector {
    async fn connect(&self, config: &TlsClientConfig, to: SocketAddr) -> rsipstack::Result<Box<dyn TlsStream>> {
        let name = ServerName::try_from(config.server_name.clone()).map_err(|why| Error::Error(why.to_string()))?;
        let socket = TcpStream::connect(to).await?;
        let local = socket.local_addr()?;
        let connection = tokio_rustls::TlsConnector::from(self.0.clone()).connect(name, socket).await?;
        let (read, write) = tokio::io::split(connection);
        Ok(Box::new(Stream { read: Mutex::new(read), write: Mutex::new(write), local }))
    }
}

struct Stream {
    read: Mutex<ReadHalf<Connection>>,
    write: Mutex<WriteHalf<Connection>>,
    local: SocketAddr,
}

#[async_trait]
impl TlsStream for Stream {
    /// The next bytes; none at the end.
    async fn recv(&self) -> rsipstack::Result<Vec<u8>> {
        let mut buffer = vec![0; 4096];
        let read = self.read.lock().await.read(&mut buffer).await?;
        buffer.truncate(read);
        Ok(buffer)
    }

    async fn send_all(&self, data: Vec<u8>) -> rsipstack::Result<()> {
        let mut write = self.write.lock().await;
        write.write_all(&data).await?;
        Ok(write.flush().await?)
    }

    async fn shutdown(&self) -> rsipstack::Result<()> {
        Ok(self.write.lock().await.shutdown().await?)
    }

    fn local_addr(&self) -> rsipstack::Result<SocketAddr> {
        Ok(self.local)
    }
}
