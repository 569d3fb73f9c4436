//! The system's key store, by the very crates that cargo has in it as `cargo:libsecret`,
//! `cargo:macos-keychain` and `cargo:wincred`.

use cargo_credential::Credential;

/// The one of this system, opened once for the life of the process; `None`: there is none, or its library
/// is not installed.
pub(crate) fn of_this_system() -> Option<&'static dyn Credential> {
    #[cfg(all(feature = "key-store", target_os = "linux"))]
    return linux::secret_service();
    #[cfg(all(feature = "key-store", target_os = "macos"))]
    return Some(&cargo_credential_macos_keychain::MacKeychain);
    #[cfg(all(feature = "key-store", windows))]
    return Some(&cargo_credential_wincred::WindowsCredential);
    #[cfg(not(all(
        feature = "key-store",
        any(target_os = "linux", target_os = "macos", windows)
    )))]
    return None;
}

#[cfg(all(feature = "key-store", target_os = "linux"))]
mod linux {
    use std::sync::OnceLock;

    use cargo_credential::{Action, Credential, CredentialResponse, Error, RegistryInfo};
    use cargo_credential_libsecret::LibSecretCredential;

    /// libsecret registers types with GLib, which outlives it: unloaded and loaded again, it waits without an
    /// end for a registration that it takes for its own.
    static OPENED: OnceLock<Option<SecretService>> = OnceLock::new();

    struct SecretService(LibSecretCredential);

    pub(super) fn secret_service() -> Option<&'static dyn Credential> {
        let opened = OPENED.get_or_init(|| LibSecretCredential::new().ok().map(SecretService));
        opened.as_ref().map(|service| service as &dyn Credential)
    }

    impl Credential for SecretService {
        fn perform(
            &self,
            registry: &RegistryInfo<'_>,
            action: &Action<'_>,
            args: &[&str],
        ) -> Result<CredentialResponse, Error> {
            (&self.0).perform(registry, action, args)
        }
    }
}
