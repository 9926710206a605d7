//! Recipes by name: the values that stand where the command line says nothing.

use edge_vit_models::adapter::Adaptation;
use edge_vit_models::method::MethodSpec;

use super::augment::{Augment, Mix, RandAugment};
use super::options::Recipe;

/// A recipe by name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Preset {
    /// Short runs on a few hundred pictures.
    #[default]
    Default,
    /// That of RepAdapter's authors for VTAB-1k (Luo et al. 2023).
    Vtab,
    /// That of RepAdapter's authors for few-shot learning: the same optimisation with timm's augmentation.
    FewShot,
}

impl Preset {
    /// The recipe.
    pub fn recipe(self) -> Recipe {
        match self {
            Self::Default => Recipe::default(),
            Self::Vtab => vtab(),
            Self::FewShot => few_shot(),
        }
    }

    /// The recipe to train `adapters` with. The default one has a learning rate for methods that train what the backbone itself holds:
    /// the scales of norms bear more than weights beside the backbone's do, its matrices far less.
    pub fn recipe_for(self, adapters: Adaptation) -> Recipe {
        let lr = match (self, &adapters) {
            (Self::Default, Adaptation::Method(method)) => own_lr(method),
            _ => None,
        };
        let recipe = self.recipe();
        Recipe { lr: lr.unwrap_or(recipe.lr), adapters, ..recipe }
    }
}

/// The learning rate of a method that is not content with that of adapters.
fn own_lr(method: &MethodSpec) -> Option<f32> {
    match method {
        MethodSpec::LayerNorm => Some(2e-2),
        MethodSpec::Linear => Some(1e-2),
        MethodSpec::LastBlocks { .. } => Some(2e-4),
        MethodSpec::Full => Some(2e-5),
        _ => None,
    }
}

fn vtab() -> Recipe {
    Recipe {
        epochs: 100,
        batch_size: 64,
        lr: 1e-3,
        min_lr: Some(1e-5),
        weight_decay: 1e-4,
        // A tenth of the epochs: ten.
        warmup_epochs: None,
        warmup_lr: Some(1e-6),
        drop_path: 0.1,
        ..Recipe::default()
    }
}

fn few_shot() -> Recipe {
    Recipe {
        augment: Augment {
            flip: 0.5,
            crop: Some(0.08),
            rand_augment: Some(RandAugment::default()),
            // Their command line says 0.4, which timm passes over where RandAugment is on.
            color_jitter: 0.0,
            erase: 0.25,
            mix: Mix { mixup: 0.8, cutmix: 1.0, probability: 1.0, switch_probability: 0.5 },
        },
        label_smoothing: 0.1,
        ..vtab()
    }
}

#[cfg(test)]
mod tests {
    use super::super::schedule::Schedule;
    use super::*;

    /// The figures of the authors' code.
    #[test]
    fn the_authors_recipe_is_theirs() {
        let recipe = Preset::Vtab.recipe();
        recipe.check().unwrap();
        assert_eq!((recipe.epochs, recipe.batch_size, recipe.warmup()), (100, 64, 10.0));
        assert_eq!((recipe.weight_decay, recipe.drop_path, recipe.dropout), (1e-4, 0.1, 0.1));
        assert_eq!((recipe.label_smoothing, recipe.ema, recipe.patience), (0.0, None, None));
        assert!(!recipe.augment.is_on());
        // 1000 pictures: 16 steps an epoch.
        let (first, last) = (recipe.warmup_lr, recipe.min_lr);
        let schedule = Schedule { peak: recipe.lr, first, last, warmup: 160, total: 1600 };
        for (step, expected) in [(0, 1e-6f32), (80, 0.5005e-3), (160, 1e-3), (880, 0.505e-3), (1600, 1e-5)] {
            assert!((schedule.lr(step) / expected - 1.0).abs() < 1e-5, "{step}: {}", schedule.lr(step));
        }
    }

    #[test]
    fn what_is_trained_decides_the_default_learning_rate_and_no_other() {
        let lr = |preset: Preset, method| preset.recipe_for(Adaptation::Method(method)).lr;
        assert_eq!(lr(Preset::Default, MethodSpec::Ssf), Recipe::default().lr);
        assert_eq!(lr(Preset::Default, MethodSpec::Full), 2e-5);
        assert_eq!(lr(Preset::Vtab, MethodSpec::Full), Preset::Vtab.recipe().lr);
        let adapters = Recipe::default().adapters;
        assert_eq!(Preset::Default.recipe_for(adapters), Recipe::default());
    }

    #[test]
    fn few_shots_are_augmented_as_the_authors_do() {
        let recipe = Preset::FewShot.recipe();
        recipe.check().unwrap();
        let augment = &recipe.augment;
        assert_eq!(augment.rand_augment, Some("rand-m9-mstd0.5-inc1".parse().unwrap()));
        assert_eq!((augment.flip, augment.crop, augment.erase, augment.color_jitter), (0.5, Some(0.08), 0.25, 0.0));
        assert_eq!((augment.mix.mixup, augment.mix.cutmix, recipe.label_smoothing), (0.8, 1.0, 0.1));
        let plain = Recipe { augment: Augment::default(), label_smoothing: 0.0, ..recipe };
        assert_eq!(plain, Preset::Vtab.recipe());
    }
}
