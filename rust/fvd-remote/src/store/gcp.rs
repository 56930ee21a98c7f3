//! Google Cloud Storage: bearer tokens.

use std::sync::Arc;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use object_store::gcp::{GcpCredentialProvider, GoogleCloudStorageBuilder, GoogleConfigKey};

use super::connector::{Connector, no_retries};
use super::credentials::failed;
use crate::config::Environment;
use crate::transport::{Failure, FailureKind, Request, Transport};

/// Where the credentials of a bucket come from: a service account, the user's own, or the machine's service.
pub(crate) struct Gcp {
    pub(super) bucket: String,
    pub(super) environment: Environment,
    pub(super) transport: Arc<dyn Transport>,
}

pub(super) struct Session(pub(super) GcpCredentialProvider);

impl Gcp {
    /// A new session: what was cached for the last one is forgotten.
    pub(super) fn session(&self) -> Result<Session, Failure> {
        let mut builder = GoogleCloudStorageBuilder::new();
        for (name, value) in self.environment.starting_with("GOOGLE_") {
            if let Ok(key) = name.to_ascii_lowercase().parse::<GoogleConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let store = builder
            .with_bucket_name(&self.bucket)
            .with_retry(no_retries())
            .with_http_connector(Connector(Arc::clone(&self.transport)))
            .build();
        let store = store.map_err(|error| failed("the GOOGLE_ variables are incomplete", &error))?;
        Ok(Session(Arc::clone(store.credentials())))
    }
}

impl Session {
    pub(super) async fn sign(&self, request: &mut Request) -> Result<(), Failure> {
        let credential = self.0.get_credential().await;
        let what = "no credentials for GCS (GOOGLE_APPLICATION_CREDENTIALS and others; `anonymous = true` for public \
                    buckets)";
        let credential = credential.map_err(|error| failed(what, &error))?;
        let value = HeaderValue::try_from(format!("Bearer {}", credential.bearer));
        let mut value = value.map_err(|_| Failure::new(FailureKind::Credentials, "the token of GCS cannot be sent"))?;
        value.set_sensitive(true);
        request.headers.insert(AUTHORIZATION, value);
        Ok(())
    }
}
