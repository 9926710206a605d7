//! Keys and signatures of model files, in the format of minisign.
//!
//! The device's code checks them: [`edge_vit::signature`].

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edge_vit::signature::{PublicKey, SignatureError, Signed, signature_path, verify};
use edge_vit_models::file::{hex, write_atomic};
use minisign::{KeyPair, PError, PublicKey as Public, SecretKey, SecretKeyBox};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::evaluate::printable;

/// Why there are no keys or no signature.
#[derive(Debug, Error)]
pub enum SignError {
    /// A key would take the place of another.
    #[error("{path} is there already, and what was signed with it could not be checked any more; name another file")]
    KeyThere {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No keys could be made.
    #[error("cannot make keys: {source}; without a terminal to ask for a password at, give --no-password")]
    Generate {
        /// Why.
        source: PError,
    },
    /// The file is no secret key, or the password is not its own.
    #[error("cannot use the secret key {path}: {reason}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The signature could not be made.
    #[error("cannot sign: {source}")]
    Sign {
        /// Why.
        source: PError,
    },
    /// The device's code does not believe the signature.
    #[error("the device's own code refuses the signature: {0}; nothing was written")]
    Refused(#[from] SignatureError),
}

/// What keeps a secret key from whoever gets hold of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// Nothing: the file alone signs.
    None,
    /// This text.
    Text(String),
    /// What a person types at the terminal.
    Ask,
}

/// Where the public key beside the secret key at `path` lies.
pub fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Makes a pair of keys: the secret one at `path`, for its owner's eyes only, and the public one at `path` with `.pub`
/// behind. Gives the public one.
///
/// # Errors
/// When either file is there, a file cannot be written, or no password can be asked for. Nothing is then left.
pub fn keygen(path: &Path, password: Password) -> Result<PublicKey, SignError> {
    let public_path = public_path(path);
    if let Some(path) = [path, &public_path].into_iter().find(|path| path.exists()) {
        return Err(SignError::KeyThere { path: path.to_owned() });
    }
    let generate = |source| SignError::Generate { source };
    let (pair, comment) = match password {
        Password::None => (KeyPair::generate_unencrypted_keypair(), "minisign unencrypted secret key"),
        Password::Text(text) => (KeyPair::generate_encrypted_keypair(Some(text)), "minisign encrypted secret key"),
        Password::Ask => (KeyPair::generate_encrypted_keypair(None), "minisign encrypted secret key"),
    };
    let pair = pair.map_err(generate)?;
    let public = pair.pk.to_box().map_err(generate)?.into_string();
    let secret = pair.sk.to_box(Some(comment)).map_err(generate)?.into_string();
    let key = public.parse()?;
    write_new(path, &secret, 0o600)?;
    write_new(&public_path, &public, 0o666).inspect_err(|_| {
        // A secret key whose public one is lost is of no use.
        if let Err(error) = fs::remove_file(path) {
            log::warn!("cannot remove {}: {error}", path.display());
        }
    })?;
    Ok(key)
}

/// Signs the file at `model` with the secret key in the file at `key`, and writes the signature beside the model. The
/// trusted comment says when, which file, and its SHA-256. The device's code has believed the signature before it is
/// written.
///
/// # Errors
/// When a file cannot be read or written, the key is none, or its password is another. An old signature is then
/// untouched.
pub fn sign(model: &Path, key: &Path, password: Password) -> Result<(PathBuf, Signed), SignError> {
    let bytes = fs::read(model).map_err(|source| SignError::Read { path: model.to_owned(), source })?;
    let secret = read_secret(key, password)?;
    let failed = |source| SignError::Sign { source };
    let public = Public::from_secret_key(&secret).map_err(failed)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let name = printable(&model.file_name().unwrap_or_default().to_string_lossy());
    let comment = format!("timestamp:{now}\tfile:{name}\thashed\tsha256:{}", hex(Sha256::digest(&bytes)));
    let untrusted = "signature from edge-vit-tools secret key";
    let signature = minisign::sign(Some(&public), &secret, bytes.as_slice(), Some(&comment), Some(untrusted));
    let text = signature.map_err(failed)?.into_string();
    let signed = verify(&[public.to_base64().parse()?], &bytes, &text)?;
    let path = signature_path(model);
    write_atomic(&path, text.as_bytes()).map_err(|source| SignError::Write { path: path.clone(), source })?;
    Ok((path, signed))
}

/// Reads a secret key, and decrypts it if it is encrypted.
fn read_secret(path: &Path, password: Password) -> Result<SecretKey, SignError> {
    let failed = |reason: String| SignError::Key { path: path.to_owned(), reason };
    let text = fs::read_to_string(path).map_err(|source| SignError::Read { path: path.to_owned(), source })?;
    let bytes = text.lines().nth(1).and_then(|line| STANDARD.decode(line.trim()).ok());
    let secret = match bytes.as_deref() {
        // The algorithm of the signature, then that of the encryption, two bytes each; a checksum of 32 ends the key.
        // minisign leaves it empty in a key that is not encrypted: such a key proves itself by its first signature.
        Some(bytes @ [b'E', b'd', 0, 0, ..]) if bytes.ends_with(&[0; 32]) => SecretKey::from_bytes(bytes),
        Some([b'E', b'd', 0, 0, ..]) => SecretKeyBox::from(text).into_unencrypted_secret_key(),
        Some([b'E', b'd', ..]) => match password {
            Password::Text(text_of_password) => SecretKeyBox::from(text).into_secret_key(Some(text_of_password)),
            Password::Ask => SecretKeyBox::from(text).into_secret_key(None),
            Password::None => return Err(failed("it is encrypted, and no password is given".to_owned())),
        },
        _ => return Err(failed("it is no secret key of minisign; `keygen` makes one".to_owned())),
    };
    secret.map_err(|error| failed(error.to_string()))
}

/// Writes a file that is not there yet, wholly or not at all, for those whom `mode` and the umask let.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), SignError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || {
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
        #[cfg(not(unix))]
        let _ = mode;
        let mut file = builder.tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path).map(drop).map_err(|error| error.error)
    };
    write().map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => SignError::KeyThere { path: path.to_owned() },
        _ => SignError::Write { path: path.to_owned(), source },
    })
}

#[cfg(test)]
mod tests {
    use edge_vit::signature::verify_file;

    use super::*;

    #[test]
    fn what_is_signed_is_believed_and_says_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (key, model) = (folder.path().join("key"), folder.path().join("my model.onnx"));
        let public = keygen(&key, Password::None).unwrap();
        assert_eq!(PublicKey::from_text_or_file(public_path(&key).to_str().unwrap()).unwrap(), public);
        fs::write(&model, b"abc").unwrap();
        let (path, signed) = sign(&model, &key, Password::Ask).unwrap();
        assert_eq!(path, folder.path().join("my model.onnx.minisig"));
        assert_eq!(verify_file(&[public], &model).unwrap(), (b"abc".to_vec(), signed.clone()));
        assert!(signed.comment.contains("\tfile:my model.onnx\thashed\t"), "{}", signed.comment);
        let sha256 = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(signed.comment.ends_with(sha256), "{}", signed.comment);
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_key_is_its_owners_alone_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        keygen(&key, Password::None).unwrap();
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let secret = fs::read(&key).unwrap();
        assert!(matches!(keygen(&key, Password::None), Err(SignError::KeyThere { path }) if path == key));
        assert_eq!(fs::read(&key).unwrap(), secret);
        // Not even its public half.
        let other = folder.path().join("other");
        fs::write(public_path(&other), "mine").unwrap();
        assert!(matches!(keygen(&other, Password::None), Err(SignError::KeyThere { .. })));
        assert!(!other.exists());
        let nowhere = keygen(&folder.path().join("gone/key"), Password::None);
        assert!(matches!(nowhere, Err(SignError::Write { .. })));
    }

    #[test]
    fn an_encrypted_key_takes_its_password() {
        let folder = tempfile::tempdir().unwrap();
        let (key, model) = (folder.path().join("key"), folder.path().join("model.onnx"));
        let public = keygen(&key, Password::Text("right".into())).unwrap();
        fs::write(&model, b"abc").unwrap();
        let sign = |password: &str| sign(&model, &key, Password::Text(password.into()));
        assert!(matches!(sign("wrong"), Err(SignError::Key { .. })));
        assert!(!signature_path(&model).exists());
        sign("right").unwrap();
        verify_file(&[public], &model).unwrap();
        assert!(matches!(super::sign(&model, &key, Password::None), Err(SignError::Key { .. })));
    }

    #[test]
    fn a_key_without_a_checksum_proves_itself_by_its_signature() {
        let folder = tempfile::tempdir().unwrap();
        let (key, model) = (folder.path().join("key"), folder.path().join("model.onnx"));
        let public = keygen(&key, Password::None).unwrap();
        fs::write(&model, b"abc").unwrap();
        let text = fs::read_to_string(&key).unwrap();
        let mut bytes = STANDARD.decode(text.lines().nth(1).unwrap()).unwrap();
        bytes[126..].fill(0);
        let write =
            |bytes: &[u8]| fs::write(&key, format!("untrusted comment: x\n{}\n", STANDARD.encode(bytes))).unwrap();
        write(&bytes);
        sign(&model, &key, Password::None).unwrap();
        verify_file(&[public], &model).unwrap();
        // The seed, then the public key.
        for at in [70, 100] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            write(&damaged);
            let error = sign(&model, &key, Password::None).unwrap_err();
            assert!(matches!(error, SignError::Sign { .. } | SignError::Refused(_)), "{error}");
        }
    }

    #[test]
    fn what_is_no_key_or_no_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (key, model) = (folder.path().join("key"), folder.path().join("model.onnx"));
        assert!(matches!(sign(&model, &key, Password::None), Err(SignError::Read { path, .. }) if path == model));
        fs::write(&model, b"abc").unwrap();
        assert!(matches!(sign(&model, &key, Password::None), Err(SignError::Read { path, .. }) if path == key));
        keygen(&key, Password::None).unwrap();
        let secret = fs::read_to_string(&key).unwrap();
        let cut = &secret[..secret.len() - 40];
        let public = fs::read_to_string(public_path(&key)).unwrap();
        for text in ["", "no key", "a\nb\n", cut, &public, &secret.replace("RWQAA", "RWQAB")] {
            fs::write(&key, text).unwrap();
            match sign(&model, &key, Password::None) {
                Err(SignError::Key { .. }) => {}
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
