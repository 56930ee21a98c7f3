//! S3: signature version 4.

use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use serde::Deserialize;

use super::connector::{Connector, no_retries, sign_with};
use super::credentials::{blocking, failed};
use super::helper;
use crate::config::Environment;
use crate::hooks::KeySource;
use crate::secret::Secret;
use crate::transport::{Failure, FailureKind, Request, Transport};

/// Where the credentials of a bucket come from: a helper, or whatever the environment names (keys, a web
/// identity, a container's or the machine's service).
pub(crate) struct Aws {
    pub(super) bucket: String,
    pub(super) region: String,
    pub(super) environment: Environment,
    pub(super) helper: Vec<String>,
    /// The program that uses this crate, before all others.
    pub(super) keys: Option<Arc<dyn KeySource>>,
    pub(super) transport: Arc<dyn Transport>,
}

pub(super) struct Session {
    pub(super) provider: AwsCredentialProvider,
    region: String,
}

/// What AWS's own tools expect of a `credential_process`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Option<Secret>,
}

impl Aws {
    /// A new session: what was cached for the last one is forgotten.
    pub(super) async fn session(&self) -> Result<Session, Failure> {
        let mut builder = AmazonS3Builder::new();
        for (name, value) in self.environment.starting_with("AWS_") {
            if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        if let Some(source) = &self.keys {
            let source = Arc::clone(source);
            let keys = blocking(move || source.keys()).await?;
            let credential = AwsCredential {
                key_id: keys.key_id,
                secret_key: keys.secret_key.expose().to_owned(),
                token: keys.token.map(|token| token.expose().to_owned()),
            };
            builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
        } else if !self.helper.is_empty() {
            let printed: Printed = helper::run(&self.helper).await?;
            let credential = AwsCredential {
                key_id: printed.access_key_id,
                secret_key: printed.secret_access_key.expose().to_owned(),
                token: printed.session_token.map(|token| token.expose().to_owned()),
            };
            builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
        }
        let store = builder
            .with_bucket_name(&self.bucket)
            .with_region(&self.region)
            .with_retry(no_retries())
            .with_http_connector(Connector(Arc::clone(&self.transport)))
            .build();
        let store = store.map_err(|error| failed("the AWS_ variables are incomplete", &error))?;
        Ok(Session {
            provider: Arc::clone(store.credentials()),
            region: self.region.clone(),
        })
    }
}

impl Session {
    pub(super) async fn sign(&self, request: &mut Request) -> Result<(), Failure> {
        let credential = self.provider.get_credential().await;
        let credential = credential.map_err(|error| {
            failed(
                "no credentials for S3 (AWS_ACCESS_KEY_ID and others; `anonymous = true` for public buckets)",
                &error,
            )
        })?;
        if credential.key_id.is_empty() {
            return Err(Failure::new(FailureKind::Credentials, "the access key of AWS is empty"));
        }
        let authorizer = AwsAuthorizer::new(&credential, "s3", &self.region);
        sign_with(request, |signed| authorizer.try_authorize(signed, None))
    }
}
