//! Signatures of model files, in the format of minisign.
//!
//! The signature of `model.onnx` lies beside it as `model.onnx.minisig`: Ed25519 over the file's BLAKE2b-512, and once
//! more over that signature and its trusted comment. `edge-vit-tools sign` and minisign since 0.10 write it so. The
//! older form, over the file itself, is told and refused.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fmt, fs};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

/// The most bytes that are read of a file that should be a key or a signature. These have some 300.
const MAX_TEXT: u64 = 16 << 10;
/// The first line of a key file or a signature begins so.
const COMMENT: &str = "untrusted comment:";
/// The algorithm of a key, and of a signature of the older form.
const ED25519: &[u8] = b"Ed";
/// The algorithm of a signature over the file's hash.
const ED25519_PREHASHED: &[u8] = b"ED";

/// Why a file is not taken for one that the owner of a key signed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The text is no public key.
    #[error("not a public key of minisign: {reason}; give the text of a .pub file, or its second line")]
    Key {
        /// What is wrong with it.
        reason: String,
    },
    /// There is no key to compare with.
    #[error("no public key is given, so that no signature can be believed; name one")]
    NoKeys,
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no signature beside the file.
    #[error("{} is not there: the model is not signed; `edge-vit-tools sign` does that", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The text is no signature.
    #[error("not a signature of minisign: {reason}; sign the model again")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// The signature is over the file itself.
    #[error("the signature is of the older form of minisign, without a hash; sign the model again with 0.10 or later")]
    Legacy,
    /// The signature was made with a key that is not among those given.
    #[error("the signature was made with the key {signer}, and trusted are {}", trusted.join(", "))]
    OtherKey {
        /// The identifier of the signer's key.
        signer: String,
        /// The identifiers of the keys given.
        trusted: Vec<String>,
    },
    /// The signature does not fit the file, or its comment.
    #[error("the signature of the key {signer} does not fit: the model, or the signature, was changed afterwards")]
    Wrong {
        /// The identifier of the key.
        signer: String,
    },
}

/// A key that signatures are compared with. It is read from the text of a `.pub` file of minisign, or from that file's
/// second line alone; it prints as that line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    id: [u8; 8],
    base64: String,
    key: minisign_verify::PublicKey,
}

impl PublicKey {
    /// The key that `text` is, or that the file of this name holds.
    ///
    /// # Errors
    /// [`SignatureError::Key`] if it is neither, [`SignatureError::Read`] if there is a file that cannot be read.
    pub fn from_text_or_file(text: &str) -> Result<Self, SignatureError> {
        let reason = match text.parse() {
            Ok(key) => return Ok(key),
            Err(reason) => reason,
        };
        match read_text(Path::new(text)) {
            Ok(text) => text.parse(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(reason),
            Err(source) => Err(SignatureError::Read { path: text.into(), source }),
        }
    }

    /// The key's identifier, 16 hexadecimal digits, as minisign prints it.
    pub fn id(&self) -> String {
        in_hex(self.id)
    }
}

impl FromStr for PublicKey {
    type Err = SignatureError;

    /// # Errors
    /// [`SignatureError::Key`] if it is no public key.
    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let failed = |reason: String| SignatureError::Key { reason };
        let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(COMMENT));
        let line = line.ok_or_else(|| failed("it is empty".to_owned()))?;
        let bytes = STANDARD.decode(line).map_err(|error| failed(format!("it is not base64 ({error})")))?;
        if bytes.len() != 42 || !bytes.starts_with(ED25519) {
            return Err(failed(format!("it has {} bytes and not 42 that begin with `Ed`", bytes.len())));
        }
        let key = minisign_verify::PublicKey::from_base64(line).map_err(|error| failed(error.to_string()))?;
        let mut id = [0; 8];
        id.copy_from_slice(&bytes[2..10]);
        Ok(Self { id, base64: line.to_owned(), key })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.base64)
    }
}

/// Who signed a file, and what they said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The identifier of the key.
    pub key: String,
    /// The trusted comment: the signature covers it too.
    pub comment: String,
}

/// Says who of `keys` signed the file with these `bytes`, going by the text of its signature.
///
/// # Errors
/// [`SignatureError::NoKeys`], [`SignatureError::Malformed`], [`SignatureError::Legacy`],
/// [`SignatureError::OtherKey`] and [`SignatureError::Wrong`].
pub fn verify(keys: &[PublicKey], bytes: &[u8], signature: &str) -> Result<Signed, SignatureError> {
    if keys.is_empty() {
        return Err(SignatureError::NoKeys);
    }
    let (algorithm, id) = signer(signature)?;
    if algorithm == ED25519 {
        return Err(SignatureError::Legacy);
    }
    let malformed = |error: minisign_verify::Error| SignatureError::Malformed { reason: error.to_string() };
    let signature = minisign_verify::Signature::decode(signature).map_err(malformed)?;
    let signer = in_hex(id);
    let mut same = keys.iter().filter(|key| key.id == id).peekable();
    if same.peek().is_none() {
        return Err(SignatureError::OtherKey { signer, trusted: keys.iter().map(PublicKey::id).collect() });
    }
    // An identifier is a name and no proof: of several keys with the same one, each is tried.
    match same.any(|key| key.key.verify(bytes, &signature, false).is_ok()) {
        true => Ok(Signed { key: signer, comment: signature.trusted_comment().to_owned() }),
        false => Err(SignatureError::Wrong { signer }),
    }
}

/// Reads the file at `path` and its signature, and says who of `keys` signed it. What is to be used are the bytes given
/// here: the file can be another one by the time that it is read again.
///
/// # Errors
/// Those of [`verify`] and [`read_signature`]; [`SignatureError::Read`] if the file cannot be read.
pub fn verify_file(keys: &[PublicKey], path: &Path) -> Result<(Vec<u8>, Signed), SignatureError> {
    let bytes = fs::read(path).map_err(|source| SignatureError::Read { path: path.to_owned(), source })?;
    let signed = verify(keys, &bytes, &read_signature(path)?)?;
    Ok((bytes, signed))
}

/// Where the signature of the file at `path` lies.
pub fn signature_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".minisig");
    name.into()
}

/// The text of the signature of the file at `path`.
///
/// # Errors
/// [`SignatureError::Missing`] if there is none, [`SignatureError::Read`] if it cannot be read,
/// [`SignatureError::Malformed`] if it is far too long for one.
pub fn read_signature(path: &Path) -> Result<String, SignatureError> {
    let path = signature_path(path);
    match read_text(&path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SignatureError::Missing { path }),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(SignatureError::Malformed { reason: error.to_string() })
        }
        Err(source) => Err(SignatureError::Read { path, source }),
    }
}

/// Reads a file of text that is as short as keys and signatures are.
fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_TEXT + 1).read_to_string(&mut text)?;
    match text.len() as u64 > MAX_TEXT {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {MAX_TEXT} bytes"))),
        false => Ok(text),
    }
}

/// The algorithm and the signer's identifier that a signature names.
fn signer(signature: &str) -> Result<([u8; 2], [u8; 8]), SignatureError> {
    let malformed = |reason: &str| SignatureError::Malformed { reason: reason.to_owned() };
    let line = signature.lines().nth(1).ok_or_else(|| malformed("it has no second line"))?;
    let bytes = STANDARD.decode(line.trim()).map_err(|_| malformed("its second line is not base64"))?;
    match bytes.as_slice() {
        &[a, b, i0, i1, i2, i3, i4, i5, i6, i7, ..] if [a, b] == ED25519 || [a, b] == ED25519_PREHASHED => {
            Ok(([a, b], [i0, i1, i2, i3, i4, i5, i6, i7]))
        }
        _ => Err(malformed("its second line does not begin with `Ed` or `ED` and a key's identifier")),
    }
}

fn in_hex(id: [u8; 8]) -> String {
    format!("{:016X}", u64::from_le_bytes(id))
}

#[cfg(test)]
pub(crate) mod tests {
    use minisign::KeyPair;

    use super::*;

    /// Of minisign 0.11: the key, and signatures of the file that holds `test` in both forms.
    const PUBLIC: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const PREHASHED: &str = "untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1633700835\tfile:test\tprehashed
wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==
";

    /// A key pair for tests.
    pub(crate) fn pair() -> (KeyPair, PublicKey) {
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let key = pair.pk.to_base64().parse().unwrap();
        (pair, key)
    }

    /// A signature by `pair` over `bytes`.
    pub(crate) fn sign(pair: &KeyPair, bytes: &[u8]) -> String {
        minisign::sign(None, &pair.sk, bytes, Some("a comment"), None).unwrap().into_string()
    }

    fn keys() -> [PublicKey; 1] {
        [PUBLIC.parse().unwrap()]
    }

    #[test]
    fn a_signature_that_minisign_wrote_is_believed() {
        let expected = Signed {
            key: "E7620F1842B4E81F".to_owned(),
            comment: "timestamp:1633700835\tfile:test\tprehashed".to_owned(),
        };
        assert_eq!(verify(&keys(), b"test", PREHASHED).unwrap(), expected);
        let (_, other) = pair();
        assert_eq!(verify(&[other, keys()[0].clone()], b"test", PREHASHED).unwrap(), expected);
    }

    #[test]
    fn what_was_changed_or_is_of_another_key_is_not() {
        let is_wrong = |bytes: &[u8], signature: &str| matches!(verify(&keys(), bytes, signature), Err(SignatureError::Wrong { signer }) if signer.starts_with("E76"));
        assert!(is_wrong(b"tesu", PREHASHED));
        assert!(is_wrong(b"test", &PREHASHED.replace("file:test", "file:rest")));
        assert!(is_wrong(b"test", &PREHASHED.replace("dF/z7", "dF/z8")));
        let (pair, key) = pair();
        let error = verify(std::slice::from_ref(&key), b"test", PREHASHED).unwrap_err();
        assert!(matches!(&error, SignatureError::OtherKey { trusted, .. } if *trusted == [key.id()]), "{error}");
        // A key that takes another's identifier signs nothing in its name.
        let mut forged = pair.sk.to_bytes();
        forged[54..62].copy_from_slice(&keys()[0].id);
        let forged = minisign::SecretKey::from_bytes(&forged).unwrap();
        let forged = minisign::sign(None, &forged, &b"test"[..], None, None).unwrap().into_string();
        assert!(is_wrong(b"test", &forged), "{forged}");
        assert!(matches!(verify(&[], b"test", PREHASHED), Err(SignatureError::NoKeys)));
    }

    #[test]
    fn the_older_form_and_what_is_no_signature_are_told() {
        let legacy = STANDARD.decode(PREHASHED.lines().nth(1).unwrap()).unwrap();
        let legacy = STANDARD.encode([b"Ed", &legacy[2..]].concat());
        let legacy = PREHASHED.replace(PREHASHED.lines().nth(1).unwrap(), &legacy);
        assert!(matches!(verify(&keys(), b"test", &legacy), Err(SignatureError::Legacy)));
        let lines: Vec<&str> = PREHASHED.lines().collect();
        for kept in 0..4 {
            let error = verify(&keys(), b"test", &lines[..kept].join("\n")).unwrap_err();
            assert!(matches!(error, SignatureError::Malformed { .. }), "{error}");
        }
        for text in ["", "a\nb\nc\nd", "a\nRUQ=\nc\nd", "untrusted comment: \n\u{1F980}"] {
            assert!(matches!(verify(&keys(), b"test", text), Err(SignatureError::Malformed { .. })));
        }
    }

    #[test]
    fn keys_are_read_from_files_and_from_lines() {
        let file = format!("untrusted comment: minisign public key E7620F1842B4E81F\n{PUBLIC}\n");
        let key: PublicKey = file.parse().unwrap();
        assert_eq!(key, keys()[0]);
        assert_eq!((key.to_string().as_str(), key.id().as_str()), (PUBLIC, "E7620F1842B4E81F"));
        assert_eq!(format!("  {PUBLIC}\r\n").parse::<PublicKey>().unwrap(), key);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pub");
        fs::write(&path, &file).unwrap();
        assert_eq!(PublicKey::from_text_or_file(path.to_str().unwrap()).unwrap(), key);
        assert_eq!(PublicKey::from_text_or_file(PUBLIC).unwrap(), key);
        assert!(matches!(PublicKey::from_text_or_file("absent.pub"), Err(SignatureError::Key { .. })));
        let folder = folder.path().to_str().unwrap();
        assert!(matches!(PublicKey::from_text_or_file(folder), Err(SignatureError::Read { .. })));
        for wrong in ["", "untrusted comment: x", "no key", &PUBLIC[1..], &PUBLIC[..52], &PUBLIC.replace("RWQ", "AAA")]
        {
            assert!(matches!(wrong.parse::<PublicKey>(), Err(SignatureError::Key { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_file_is_read_with_the_signature_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        let read = || verify_file(&keys(), &path);
        assert!(matches!(read(), Err(SignatureError::Read { .. })));
        fs::write(&path, b"test").unwrap();
        let beside = folder.path().join("model.onnx.minisig");
        assert!(matches!(read(), Err(SignatureError::Missing { path }) if path == beside));
        for (text, fits) in [(PREHASHED.as_bytes(), true), (&[0xff; 9], false), (&[b'a'; 99_999], false)] {
            fs::write(&beside, text).unwrap();
            match read() {
                Ok((bytes, _)) => assert!(fits && bytes == b"test"),
                Err(error) => assert!(!fits && matches!(error, SignatureError::Malformed { .. }), "{error}"),
            }
        }
    }
}
