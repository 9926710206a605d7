//! From sentences to vectors.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use edge_vit_models::text::{TextError, Tower};
use tokenizers::Tokenizer;

use super::ZeroShotError;
use crate::cpu::CpuEngine;
use crate::engine::Engine as _;

/// Sentences that the tower computes at once.
const BATCH: usize = 64;

/// A text tower with its tokenizer.
#[derive(Debug)]
pub struct Texts<'a> {
    tower: &'a Tower,
    tokenizer: Tokenizer,
}

/// Where a backbone's tokenizer is looked for: `NAME.tokenizer.json` for `NAME.safetensors`, as `fetch` leaves it, or
/// `tokenizer.json` in its folder.
pub(super) fn beside(backbone: &Path) -> PathBuf {
    let own = backbone.with_extension("tokenizer.json");
    if own.exists() { own } else { backbone.with_file_name("tokenizer.json") }
}

impl<'a> Texts<'a> {
    /// Reads a tokenizer from `path`, in the format of Hugging Face's `tokenizers`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(tower: &'a Tower, path: &Path) -> Result<Self, ZeroShotError> {
        let failed = |reason: String| ZeroShotError::Tokenizer { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| failed(error.to_string()))?;
        // The tower's own length holds, and every text is as long as it is.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| failed(error.to_string()))?;
        Ok(Self { tower, tokenizer })
    }

    /// The tokens of a sentence with the marks of beginning and end; of one that is too long the first ones and the end.
    ///
    /// # Errors
    /// When the tokenizer does not take it.
    pub fn tokens(&self, sentence: &str) -> Result<Vec<u32>, String> {
        let encoding = self.tokenizer.encode(sentence, true).map_err(|error| error.to_string())?;
        let (mut tokens, most) = (encoding.get_ids().to_vec(), self.tower.config.context_length);
        if let (true, Some(&end)) = (tokens.len() > most, tokens.last()) {
            tokens.truncate(most.saturating_sub(1));
            tokens.push(end);
        }
        Ok(tokens)
    }

    /// The vector of each sentence, `[embed_dim]`, not of length 1.
    ///
    /// # Errors
    /// When a sentence cannot be taken or the tower not be run.
    pub fn vectors(&self, sentences: &[String]) -> Result<Vec<Vec<f64>>, ZeroShotError> {
        let tokens = |sentence: &String| {
            let failed = |reason| ZeroShotError::Tokenizer { path: sentence.into(), reason };
            self.tokens(sentence).map_err(failed)
        };
        let tokens: Vec<Vec<u32>> = sentences.iter().map(tokens).collect::<Result<_, _>>()?;
        let longest = tokens.iter().map(Vec::len).max().unwrap_or(0);
        if longest == 0 {
            return Ok(Vec::new());
        }
        let graph = self.tower.graph(longest)?;
        let mut engine = CpuEngine::<f32>::new(&graph, &BTreeSet::new())?;
        let dim = self.tower.config.embed_dim;
        let mut vectors = Vec::with_capacity(sentences.len());
        for batch in tokens.chunks(BATCH) {
            let input: Result<Vec<Vec<f32>>, TextError> =
                batch.iter().map(|tokens| self.tower.input(tokens, longest)).collect();
            let output = engine.forward(&input?.concat(), batch.len())?;
            for (tokens, text) in batch.iter().zip(output.chunks_exact(longest * dim)) {
                let last = tokens.len().saturating_sub(1) * dim;
                vectors.push(text[last..last + dim].iter().map(|&value| value.into()).collect());
            }
        }
        Ok(vectors)
    }
}
