//! A new connection: to the server, through TLS, up to the export that is open.

use std::sync::Arc;

use fvd::Result;
use fvd_nbd::protocol::client::fault::ServerFault;
use fvd_nbd::protocol::client::handshake::{Negotiation, Opened, Step};
use fvd_nbd::protocol::constants::rep;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::name::{Name, Server};
use crate::config::{Rule, Tuning};
use crate::transport::{
    AddressRule, Failure, FailureKind, Stream, TlsIdentity, TlsRoots, dial, dial_unix, tls, tls_config,
};

/// Makes connections to one export.
pub(crate) struct Connector {
    pub(super) name: Name,
    addresses: AddressRule,
    tls: Option<Arc<ClientConfig>>,
    tuning: Tuning,
}

impl Connector {
    /// Reads the certificates, and sends nothing.
    pub(crate) fn new(name: Name, rule: &Rule, tuning: &Tuning) -> Result<Self> {
        let addresses = match &name.server {
            Server::Tcp { host, .. } if rule.link_local => AddressRule::Named(host.clone()),
            _ => AddressRule::Public,
        };
        let roots = rule.ca_file.clone().map_or(TlsRoots::System, TlsRoots::File);
        let identity = rule.client_cert.clone().zip(rule.client_key.clone());
        let identity = identity.map(|(certificates, key)| TlsIdentity { certificates, key });
        let tls = if name.tls {
            Some(tls_config(&roots, identity.as_ref())?)
        } else {
            None
        };
        Ok(Self {
            name,
            addresses,
            tls,
            tuning: tuning.clone(),
        })
    }

    /// Connects and opens the export. Each of the two has a time limit.
    pub(super) async fn connect(&self) -> Result<(Box<dyn Stream>, Opened), Failure> {
        let limit = self.tuning.connect_timeout;
        let stream: Box<dyn Stream> = match &self.name.server {
            Server::Tcp { host, port } => Box::new(dial(host, *port, &self.addresses, limit).await?),
            Server::Unix(path) => Box::new(dial_unix(path, limit).await?),
        };
        let limit = self.tuning.progress_timeout;
        timeout(limit, self.negotiate(stream)).await.unwrap_or_else(|_| {
            let text = format!(
                "the server has not opened the export within {:.1} s",
                limit.as_secs_f64()
            );
            Err(Failure::new(FailureKind::Silent, text))
        })
    }

    async fn negotiate(&self, mut stream: Box<dyn Stream>) -> Result<(Box<dyn Stream>, Opened), Failure> {
        let mut negotiation = Negotiation::new(&self.name.export, self.tls.is_some());
        let mut received = [0; 4096];
        let mut out = Vec::new();
        loop {
            let count = stream.read(&mut received).await.map_err(|error| broken(&error))?;
            if count == 0 {
                // After EXPORT_NAME this is how a server says that there is no such export.
                let text = "the server closed the connection before it opened the export";
                return Err(Failure::new(FailureKind::Broken, text));
            }
            let mut input = &received[..count];
            match negotiation
                .feed(&mut input, &mut out)
                .map_err(|fault| failure(&fault))?
            {
                Step::Continue => {}
                Step::StartTls => {
                    let config = self.tls.as_ref().expect("TLS was asked for");
                    stream = tls(stream, self.name.tls_host(), config).await?;
                    negotiation.tls_started(&mut out);
                }
                Step::Done(opened) if input.is_empty() => return Ok((stream, opened)),
                Step::Done(_) => {
                    let text = "the server breaks the protocol: an answer to no request";
                    return Err(Failure::new(FailureKind::Broken, text));
                }
            }
            stream.write_all(&out).await.map_err(|error| broken(&error))?;
            stream.flush().await.map_err(|error| broken(&error))?;
            out.clear();
        }
    }
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::caused(
        FailureKind::Broken,
        "the connection broke before the export was open",
        error,
    )
}

fn failure(fault: &ServerFault) -> Failure {
    match fault {
        ServerFault::Violation(_) => Failure::new(FailureKind::Broken, fault.to_string()),
        ServerFault::Refused { code, message, .. } => {
            let text = match (*code, message.as_str()) {
                (rep::ERR_UNKNOWN, _) => "the server has no such export".to_owned(),
                (rep::ERR_TLS_REQD, _) => "the server wants TLS (nbds://)".to_owned(),
                _ => fault.to_string(),
            };
            Failure::new(FailureKind::Denied, text)
        }
    }
}
