//! The system's key store, by the very crates that cargo has in it as `cargo:libsecret`,
//! `cargo:macos-keychain` and `cargo:wincred`.

use cargo_credential::Credential;

/// The one of this system; `None`: there is none, or its library is not installed.
pub(crate) fn of_this_system() -> Option<Box<dyn Credential>> {
    #[cfg(all(feature = "key-store", target_os = "linux"))]
    return linux::SecretService::open().map(|service| Box::new(service) as Box<dyn Credential>);
    #[cfg(all(feature = "key-store", target_os = "macos"))]
    return Some(Box::new(cargo_credential_macos_keychain::MacKeychain));
    #[cfg(all(feature = "key-store", windows))]
    return Some(Box::new(cargo_credential_wincred::WindowsCredential));
    #[cfg(not(all(
        feature = "key-store",
        any(target_os = "linux", target_os = "macos", windows)
    )))]
    return None;
}

#[cfg(all(feature = "key-store", target_os = "linux"))]
mod linux {
    use cargo_credential::{Action, Credential, CredentialResponse, Error, RegistryInfo};
    use cargo_credential_libsecret::LibSecretCredential;

    pub(super) struct SecretService(LibSecretCredential);

    impl SecretService {
        pub(super) fn open() -> Option<Self> {
            LibSecretCredential::new().ok().map(Self)
        }
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
