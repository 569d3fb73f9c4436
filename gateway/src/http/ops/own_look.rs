//! What a look at everything says of this machine's server and of its certificate: `doctor`'s first two lines.

use jiff::Timestamp;

use crate::config::{Config, Tls};
use crate::flows::store::doctor::{Finding, certificate};
use crate::http::ops::probe;
use crate::http::transport::tls;

/// Whether a server of this configuration runs on this machine.
pub async fn of_server(config: &Config) -> Finding {
    const CHECK: &str = "server";
    match probe::ask(config.server.admin_listen, probe::READY).await {
        Ok((true, _)) => Finding::fine(CHECK, "it runs on this machine, and is ready"),
        Ok((false, why)) => Finding::wrong(
            CHECK,
            format!("it runs on this machine, and is not ready: {}", why.trim_end()),
            "see what is said below of its store and its journal, and its log",
        ),
        Err(e) => Finding::mind(
            CHECK,
            e.message,
            "start it (`cratehouse serve`), unless it runs on another machine: then ask there",
        ),
    }
}

/// Whether the certificate can be used, and for how long.
pub fn of_certificate(config: &Config) -> Finding {
    const CHECK: &str = "certificate";
    let url = config.url_for(config.server.listen);
    let host = tls::host_of(&url).concat();
    let is_renewed = matches!(config.tls, Tls::LocalCa);
    let found =
        tls::check(&config.tls, &config.data).and_then(|_| tls::look(&config.tls, &config.data));
    match found {
        Ok(Some(found)) => certificate::judge(&found, is_renewed, &host, Timestamp::now()),
        Ok(None) if is_renewed => {
            Finding::fine(CHECK, "none yet: the first start makes one, with a local CA")
        }
        Ok(None) => Finding::fine(CHECK, "TLS is off: a proxy in front has it"),
        Err(e) => {
            let cure = match is_renewed {
                true => "put the files in `tls/` of the data folder in order, as it says",
                false => "put a certificate and its key where `tls.cert` and `tls.key` say, as PEM",
            };
            Finding::wrong(CHECK, e.to_string(), cure)
        }
    }
}
