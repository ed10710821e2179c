//! TLS between peers: raw public keys (RFC 7250) on both sides, pinned by the cluster file.
//!
//! It must not know of connections or greetings. Its one invariant: a handshake that succeeds
//! proves to either side that the other holds the key of a node of the cluster file.

use std::collections::BTreeSet;
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use warbler_store::id::NodeId;

use crate::identity::Identity;

/// The one application protocol; versions are agreed on in the greeting.
const ALPN: &[u8] = b"warbler";

/// What rustls writes before an error of ours.
const RUSTLS_PREFIX: &str = "other error: ";

/// The key that was shown is not in the cluster file.
#[derive(Debug, thiserror::Error)]
#[error("the key of node {0} is not in the cluster file")]
struct UnknownKey(NodeId);

/// Both sides' configuration: of the dialling one and of the accepting one.
pub(super) fn configure(
    identity: &Identity,
    pinned: BTreeSet<NodeId>,
) -> Result<(QuicClientConfig, QuicServerConfig), Error> {
    let provider = Arc::new(default_provider());
    let verifier = Arc::new(PinnedKeys { pinned, provider: Arc::clone(&provider) });
    let key = identity.certified_key();

    let mut client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(
            &key,
        ))));
    client.alpn_protocols = vec![ALPN.to_vec()];
    // No resumption and no early data: both could be replayed.
    client.resumption = Resumption::disabled();
    client.enable_sni = false;

    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key)));
    server.alpn_protocols = vec![ALPN.to_vec()];
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;

    let unfit = |_| Error::General("no cipher suite for QUIC".to_owned());
    Ok((
        QuicClientConfig::try_from(client).map_err(unfit)?,
        QuicServerConfig::try_from(server).map_err(unfit)?,
    ))
}

/// Who the other side of a connection is, as TLS proved it.
pub(super) fn proven_id(connection: &quinn::Connection) -> Option<NodeId> {
    let keys = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    keys.first().map(|key| NodeId::of_public_key(key))
}

/// The text of a TLS error without what rustls puts before ours.
pub(super) fn plain_reason(text: &str) -> &str {
    text.strip_prefix(RUSTLS_PREFIX).unwrap_or(text)
}

/// The verifier of both sides.
#[derive(Debug)]
struct PinnedKeys {
    pinned: BTreeSet<NodeId>,
    provider: Arc<CryptoProvider>,
}

impl PinnedKeys {
    fn check(&self, key: &CertificateDer<'_>) -> Result<(), Error> {
        let id = NodeId::of_public_key(key);
        if self.pinned.contains(&id) {
            return Ok(());
        }
        Err(OtherError(Arc::new(UnknownKey(id))).into())
    }

    fn check_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
    }
}

/// TLS 1.2 is not offered, so that nothing of it can be asked of us.
fn no_tls12() -> Error {
    Error::General("TLS 1.2 is not spoken".to_owned())
}

impl ServerCertVerifier for PinnedKeys {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for PinnedKeys {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
