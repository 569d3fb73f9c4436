//! What is wrong with the settings of a bucket, told from a store that does not answer: nobody need wait for
//! what waiting does not mend. Each sentence names the key, and what to do.

use std::error::Error as StdError;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use super::{FORMAT_PATH, Objects};
use crate::settings::Store;
use crate::url::{Cloud, StoreUrl};
use cratehouse_core::error::store_answer::said;
use cratehouse_core::error::{Error, Result};

/// How long a machine's own service for credentials may take to accept a connection: it is next door.
const METADATA_WAIT: Duration = Duration::from_secs(2);
/// Where it is, unless `AWS_METADATA_ENDPOINT` says something else.
const METADATA: &str = "http://169.254.169.254";

impl Objects {
    /// Asks a bucket once, whether its settings are right. Of other stores, and of a failure that may pass, it
    /// says nothing.
    ///
    /// # Errors
    /// [`cratehouse_core::error::Kind::Invalid`], with the key that is wrong and what to do.
    pub async fn refuse_mistakes(&self, config: &Store) -> Result<()> {
        let StoreUrl::Bucket { cloud, bucket, .. } = &config.url else { return Ok(()) };
        let place = Place { cloud: *cloud, bucket, config };
        if *cloud == Cloud::S3 && !has_credentials(config).await {
            return Err(place.no_credentials());
        }
        // By the handle that does not retry.
        match self.commit.get(&Path::from(FORMAT_PATH)).await {
            Ok(_) => Ok(()),
            Err(error) => place.mistake(&error).map_or(Ok(()), Err),
        }
    }
}

struct Place<'a> {
    cloud: Cloud,
    bucket: &'a str,
    config: &'a Store,
}

impl Place<'_> {
    /// What is wrong with the settings, if that is why a request failed.
    fn mistake(&self, error: &StoreError) -> Option<Error> {
        let text = in_full(error);
        let has = |any: &[&str]| any.iter().any(|one| text.contains(one));
        let endpoint = self.endpoint();
        if has(&["NoSuchBucket", "ContainerNotFound", "specified bucket does not exist"]) {
            return Some(Error::invalid(format!(
                "`store.url`: there is no bucket `{}` at {endpoint}: make it there, or correct its name",
                self.bucket
            )));
        }
        if self.cloud != Cloud::S3 {
            return None;
        }
        let why = if has(&["169.254.169.254", "latest/meta-data", "latest/api/token"]) {
            return Some(self.no_credentials());
        } else if has(&["InvalidAccessKeyId"]) {
            format!("{}: {endpoint} does not know this access key", self.keys("access_key_id"))
        } else if has(&["SignatureDoesNotMatch"]) {
            let keys = self.keys("secret_access_key_file");
            format!("{keys}: the secret key is not that of the access key, says {endpoint}")
        } else if has(&["RequestTimeTooSkewed"]) {
            format!(
                "this machine's clock and that of {endpoint} differ by more than 15 minutes: set it"
            )
        } else if has(&[
            "AuthorizationHeaderMalformed",
            "PermanentRedirect",
            "incorrectly configured region",
        ]) {
            let right = said(&text, "Region").map(|region| format!(": it is `{region}`"));
            let right = right.unwrap_or_default();
            format!("`store.region` is not the region of the bucket `{}`{right}", self.bucket)
        } else if has(&["scheme is not allowed", "URL scheme is not"]) {
            format!("{endpoint} is plain http: write https://, or set `store.allow_http` = true")
        } else if has(&["InvalidContentType"]) {
            format!(
                "`store.endpoint`: {endpoint} does not speak TLS: write http:// and set \
                 `store.allow_http` = true, or name its port for https"
            )
        } else if has(&["UnknownIssuer", "CaUsedAsEndEntity"]) {
            format!(
                "the certificate of {endpoint} is of a CA that is not trusted here: name it in `outgoing.ca_file`"
            )
        } else if has(&["NotValidForName"]) {
            format!(
                "`store.endpoint`: the certificate of {endpoint} is for another name: write that one"
            )
        } else {
            return None;
        };
        Some(Error::invalid(why))
    }

    fn no_credentials(&self) -> Error {
        Error::invalid(format!(
            "there are no credentials for the bucket `{}`: set `store.access_key_id` and \
             `store.secret_access_key_file` (or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY); this \
             machine has no role that gives any",
            self.bucket
        ))
    }

    /// The key by which the credentials came, as whoever set it calls it.
    fn keys(&self, key: &str) -> String {
        match self.config.access_key_id {
            Some(_) => format!("`store.{key}`"),
            None => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned(),
        }
    }

    fn endpoint(&self) -> String {
        let named =
            self.config.endpoint.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
        named.unwrap_or_else(|| match self.cloud {
            Cloud::S3 => from_environment(self.config)
                .get_config_value(&Key::Endpoint)
                .unwrap_or_else(|| "Amazon S3".to_owned()),
            Cloud::Gcs => "Google Cloud Storage".to_owned(),
            Cloud::Azure => "Azure Blob Storage".to_owned(),
        })
    }
}

/// An error and its causes: some show what they rest on, and some do not.
fn in_full(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error} {error:?}");
        next = error.source();
    }
    text
}

fn from_environment(config: &Store) -> AmazonS3Builder {
    match config.access_key_id {
        Some(_) => AmazonS3Builder::new(), // nothing of the environment's mixes with it
        None => AmazonS3Builder::from_env(),
    }
}

/// Whether there is any place that credentials may come from. The last one, the machine itself, is looked for:
/// where there is none, every request would wait for it.
async fn has_credentials(config: &Store) -> bool {
    if config.access_key_id.is_some() {
        return true;
    }
    let environment = from_environment(config);
    let elsewhere = [
        Key::AccessKeyId,
        Key::SecretAccessKey,
        Key::WebIdentityTokenFile,
        Key::ContainerCredentialsRelativeUri,
        Key::ContainerCredentialsFullUri,
    ];
    if elsewhere.iter().any(|key| environment.get_config_value(key).is_some()) {
        return true;
    }
    let unsigned = environment.get_config_value(&Key::SkipSignature);
    if unsigned.is_some_and(|skip| matches!(skip.as_str(), "true" | "1")) {
        return true;
    }
    let metadata = environment.get_config_value(&Key::MetadataEndpoint);
    let metadata = metadata.unwrap_or_else(|| METADATA.to_owned());
    let Ok(url) = metadata.parse::<Url>() else { return true }; // its own message says more
    let Some((host, port)) = url.host_str().zip(url.port_or_known_default()) else { return true };
    let host = host.trim_matches(['[', ']']);
    matches!(timeout(METADATA_WAIT, TcpStream::connect((host, port))).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cratehouse_core::error::Kind;

    fn told(text: &str) -> Option<String> {
        let config = Store {
            url: "s3://acme/crates".parse().unwrap(),
            endpoint: Some("https://s3.acme.example".parse().unwrap()),
            region: None,
            access_key_id: Some("key".to_owned()),
            secret_access_key: None,
            allow_http: false,
        };
        let place = Place { cloud: Cloud::S3, bucket: "acme", config: &config };
        let error = StoreError::Generic { store: "S3", source: text.into() };
        let mistake = place.mistake(&error)?;
        assert_eq!(mistake.kind, Kind::Invalid);
        Some(mistake.message)
    }

    #[test]
    fn a_mistake_names_its_key_and_the_cure_in_one_line() {
        for (text, key) in [
            (
                "404: <Error><Code>NoSuchBucket</Code></Error>",
                "`store.url`: there is no bucket `acme`",
            ),
            ("403: <Error><Code>InvalidAccessKeyId</Code></Error>", "`store.access_key_id`"),
            (
                "403: <Error><Code>SignatureDoesNotMatch</Code></Error>",
                "`store.secret_access_key_file`",
            ),
            (
                "400: <Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>",
                "`store.region` is not the region of the bucket `acme`: it is `eu-west-1`",
            ),
            ("builder error: URL scheme is not allowed", "`store.allow_http`"),
            ("received corrupt message of type InvalidContentType", "does not speak TLS"),
            ("invalid peer certificate: UnknownIssuer", "`outgoing.ca_file`"),
            (
                "error sending request for url (http://169.254.169.254/latest/api/token)",
                "`store.access_key_id`",
            ),
        ] {
            let told = told(text).unwrap();
            assert!(told.contains(key) && !told.contains('\n'), "{text}: {told}");
            assert!(!told.contains("169.254") && !told.contains('<'), "{told}");
        }
    }

    #[test]
    fn what_may_pass_is_no_mistake() {
        for text in
            ["connection refused", "404: <Error><Code>NoSuchKey</Code></Error>", "503 SlowDown"]
        {
            assert_eq!(told(text), None, "{text}");
        }
    }
}
