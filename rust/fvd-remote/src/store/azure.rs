//! Azure Blob Storage: keys, tokens and shared access signatures.

use std::sync::Arc;

use object_store::azure::{AzureAuthorizer, AzureConfigKey, AzureCredentialProvider, MicrosoftAzureBuilder};

use super::connector::{Connector, no_retries, sign_with};
use super::credentials::failed;
use crate::config::Environment;
use crate::transport::{Failure, Request, Transport};

/// Where the credentials of a container come from.
pub(crate) struct Azure {
    pub(super) account: String,
    pub(super) container: String,
    pub(super) environment: Environment,
    pub(super) transport: Arc<dyn Transport>,
}

pub(super) struct Session {
    pub(super) provider: AzureCredentialProvider,
    account: String,
}

impl Azure {
    /// A new session: what was cached for the last one is forgotten.
    pub(super) fn session(&self) -> Result<Session, Failure> {
        let mut builder = MicrosoftAzureBuilder::new();
        for (name, value) in self.environment.starting_with("AZURE_") {
            if let Ok(key) = name.to_ascii_lowercase().parse::<AzureConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        // What Azure's command calls it.
        if let Some(key) = self.environment.get("AZURE_STORAGE_KEY") {
            builder = builder.with_access_key(key);
        }
        let store = builder
            .with_account(&self.account)
            .with_container_name(&self.container)
            .with_retry(no_retries())
            .with_http_connector(Connector(Arc::clone(&self.transport)))
            .build();
        let store = store.map_err(|error| failed("the AZURE_ variables are incomplete", &error))?;
        Ok(Session {
            provider: Arc::clone(store.credentials()),
            account: self.account.clone(),
        })
    }
}

impl Session {
    pub(super) async fn sign(&self, request: &mut Request) -> Result<(), Failure> {
        let credential = self.provider.get_credential().await;
        let credential = credential.map_err(|error| {
            failed(
                "no credentials for Azure (AZURE_STORAGE_KEY and others; `anonymous = true` for public containers)",
                &error,
            )
        })?;
        let authorizer = AzureAuthorizer::new(&credential, &self.account);
        sign_with(request, |signed| authorizer.try_authorize(signed))
    }
}
