//! Signatures of model files, in the format of minisign.
