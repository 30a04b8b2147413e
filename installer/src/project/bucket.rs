//! A place in an object store: S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage.
//!
//! Credentials come from the environment as `object_store` reads it, and never from a blueprint: `AWS_*` keys, a web
//! identity token, a container's or a machine's own role; `GOOGLE_*` and application default credentials; `AZURE_*`, a
//! managed identity, the `az` command line. Profile files of the AWS tools are not read.
//!
//! What the library says about a failure may hold an address with a signature in it, and what a server answered. None of
//! that is repeated: a failure is said in words of our own.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use castrum_blueprints::blueprint::{StatePlace, Store};
use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig,
    UpdateVersion,
};

use super::place::{Kept, Place, PlaceError, Version, When};

/// A call that has no answer after this long has none.
const PATIENCE: Duration = Duration::from_secs(5);

/// A prefix in a bucket.
pub struct Bucket {
    name: String,
    prefix: Path,
    store: Arc<dyn ObjectStore>,
}

impl Bucket {
    /// The bucket of a blueprint, with the credentials of the environment. Nothing is asked yet.
    pub fn open(state: &StatePlace) -> Result<Self, PlaceError> {
        // The library takes what the process has chosen; a second choice is refused, and is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let name = state.to_string();
        let store = build(state).map_err(|error| PlaceError::Refused {
            place: name.clone(),
            cause: format!("it cannot be opened with this environment ({})", kind(&error)),
        })?;
        Ok(Self::over(store, name, &state.prefix))
    }

    /// A prefix of `store`, which people call `name`.
    pub fn over(store: Arc<dyn ObjectStore>, name: String, prefix: &str) -> Self {
        Self { name, prefix: Path::from(prefix), store }
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), Path::join)
    }

    fn failed(&self, name: &str, error: &Error) -> PlaceError {
        let place = self.name.clone();
        match error {
            Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => {
                PlaceError::Conflict { name: name.to_owned() }
            }
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } | Error::NotFound { .. } => {
                PlaceError::Refused { place, cause: kind(error).to_owned() }
            }
            _ => PlaceError::Unreachable { place, cause: kind(error).to_owned() },
        }
    }
}

#[async_trait]
impl Place for Bucket {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn read(&self, name: &str) -> Result<Option<Kept>, PlaceError> {
        let got = match self.store.get(&self.path(name)).await {
            Ok(got) => got,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(self.failed(name, &error)),
        };
        let version = Version { tag: got.meta.e_tag.clone(), number: got.meta.version.clone() };
        let bytes = got.bytes().await.map_err(|error| self.failed(name, &error))?;
        Ok(Some(Kept { bytes, version }))
    }

    async fn write(&self, name: &str, bytes: Bytes, when: When) -> Result<Version, PlaceError> {
        let mode = match when {
            When::Absent => PutMode::Create,
            When::Is(Version { tag, number }) => {
                PutMode::Update(UpdateVersion { e_tag: tag, version: number })
            }
        };
        let put = self.store.put_opts(&self.path(name), bytes.into(), PutOptions::from(mode)).await;
        let put = put.map_err(|error| self.failed(name, &error))?;
        Ok(Version { tag: put.e_tag, number: put.version })
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, PlaceError> {
        let all: Vec<_> = self
            .store
            .list(Some(&self.path(folder)))
            .try_collect()
            .await
            .map_err(|error| self.failed(folder, &error))?;
        let below = |path: &Path| -> Option<String> {
            let parts: Vec<_> =
                path.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_owned()).collect();
            Some(parts.join("/"))
        };
        let mut names: Vec<String> = all.iter().filter_map(|meta| below(&meta.location)).collect();
        names.sort();
        Ok(names)
    }

    async fn remove(&self, name: &str) -> Result<(), PlaceError> {
        match self.store.delete(&self.path(name)).await {
            Err(error) if !is_absent(&error) => Err(self.failed(name, &error)),
            _ => Ok(()),
        }
    }
}

fn build(state: &StatePlace) -> Result<Arc<dyn ObjectStore>, Error> {
    let in_the_clear = state.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let client = ClientOptions::new()
        .with_allow_http(in_the_clear)
        .with_connect_timeout(PATIENCE)
        .with_timeout(PATIENCE);
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(1),
        base: 2.,
    };
    // Whoever renews a lease has to know soon; it asks again itself.
    let retry = RetryConfig { backoff, max_retries: 2, retry_timeout: PATIENCE };
    Ok(match state.store {
        Store::S3 => {
            let mut s3 = AmazonS3Builder::from_env().with_bucket_name(&state.bucket);
            if let Some(endpoint) = &state.endpoint {
                s3 = s3.with_endpoint(endpoint);
            }
            if let Some(region) = &state.region {
                s3 = s3.with_region(region);
            }
            let s3 = s3.with_conditional_put(S3ConditionalPut::ETagMatch);
            Arc::new(s3.with_client_options(client).with_retry(retry).build()?)
        }
        Store::Gcs => {
            let mut gcs = GoogleCloudStorageBuilder::from_env().with_bucket_name(&state.bucket);
            if let Some(endpoint) = &state.endpoint {
                gcs = gcs.with_config(GoogleConfigKey::BaseUrl, endpoint);
            }
            Arc::new(gcs.with_client_options(client).with_retry(retry).build()?)
        }
        Store::Azure => {
            let mut azure = MicrosoftAzureBuilder::from_env().with_container_name(&state.bucket);
            if let Some(endpoint) = &state.endpoint {
                azure = azure.with_endpoint(endpoint.clone());
            }
            Arc::new(azure.with_client_options(client).with_retry(retry).build()?)
        }
    })
}

/// Whether the object, and not its bucket, is what is not there.
fn is_absent(error: &Error) -> bool {
    let said = said(error);
    let bucket = ["NoSuchBucket", "ContainerNotFound", "bucket does not exist"];
    matches!(error, Error::NotFound { .. }) && !bucket.iter().any(|text| said.contains(text))
}

/// Everything that an error says. For looking into, and never for printing.
fn said(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What kind of failure this is, in words of our own.
fn kind(error: &Error) -> &'static str {
    match error {
        Error::NotFound { .. } => return "there is no such bucket",
        Error::PermissionDenied { .. } => return "the credentials do not allow it",
        Error::Unauthenticated { .. } => return "the credentials are not accepted",
        Error::NotImplemented { .. } | Error::NotSupported { .. } => return "it cannot write on condition",
        _ => {}
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(http) = cause.downcast_ref::<HttpError>() {
            return match http.kind() {
                HttpErrorKind::Connect => "no connection",
                HttpErrorKind::Timeout => "no answer in time",
                HttpErrorKind::Request | HttpErrorKind::Interrupted => "the connection broke",
                _ => "an answer that is none",
            };
        }
        source = cause.source();
    }
    let said = said(error);
    let known = [
        ("status code: 5", "the server fails"),
        ("status code: 429", "too many requests"),
        ("status code: 403", "the credentials do not allow it"),
        ("status code: 401", "the credentials are not accepted"),
        ("status code: 400", "the request is not understood; is it the right kind of store?"),
        ("redirect", "the bucket is in another region"),
        ("169.254.169.254", "no credentials are in the environment"),
        ("Missing", "something is missing in the environment"),
    ];
    known.iter().find(|(part, _)| said.contains(part)).map_or("an answer that is none", |(_, words)| words)
}
