//! The names that `nn.Module.add_module` and TorchScript accept for a layer.

use anyhow::{Result, ensure};

/// The attributes of every `nn.Module`: `dir(nn.Module())` of PyTorch 2.11.
#[rustfmt::skip]
const ATTRIBUTES: [&str; 93] = [
    "T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init", "children", "compile", "cpu",
    "cuda", "double", "dump_patches", "eval", "extra_repr", "float", "forward", "get_buffer", "get_extra_state",
    "get_parameter", "get_submodule", "half", "ipu", "load_state_dict", "modules", "mtia", "named_buffers",
    "named_children", "named_modules", "named_parameters", "parameters", "register_backward_hook", "register_buffer",
    "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_load_state_dict_post_hook", "register_load_state_dict_pre_hook",
    "register_module", "register_parameter", "register_state_dict_post_hook", "register_state_dict_pre_hook",
    "requires_grad_", "set_extra_state", "set_submodule", "share_memory", "state_dict", "to", "to_empty", "train",
    "training", "type", "xpu", "zero_grad",
    "_apply", "_backward_hooks", "_backward_pre_hooks", "_buffers", "_call_impl", "_compiled_call_impl",
    "_forward_hooks", "_forward_hooks_always_called", "_forward_hooks_with_kwargs", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_get_backward_hooks", "_get_backward_pre_hooks", "_get_name",
    "_is_full_backward_hook", "_load_from_state_dict", "_load_state_dict_post_hooks", "_load_state_dict_pre_hooks",
    "_maybe_warn_non_full_backward_hook", "_modules", "_named_members", "_non_persistent_buffers_set", "_parameters",
    "_register_load_state_dict_pre_hook", "_register_state_dict_hook", "_replicate_for_data_parallel",
    "_save_to_state_dict", "_slow_forward", "_state_dict_hooks", "_state_dict_pre_hooks", "_version",
    "_wrapped_call_impl",
    // TorchScript's own modules have these as well.
    "_c", "_concrete_type", "_constants_set", "_initializing", "_methods", "_construct", "_reconstruct",
];

/// The keywords of Python and so of TorchScript: `keyword.kwlist`.
#[rustfmt::skip]
const KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del",
    "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal",
    "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// Refuses a path such as `convblock1.0` unless each of its parts can name a module: an identifier of ASCII letters,
/// digits and `_` that PyTorch does not use itself, or a number.
pub(super) fn check(path: &str) -> Result<()> {
    path.split('.').try_for_each(check_part)
}

fn check_part(name: &str) -> Result<()> {
    let number = name == "0" || !name.starts_with('0') && name.bytes().all(|byte| byte.is_ascii_digit());
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let identifier = letters && !name.starts_with(|first: char| first.is_ascii_digit());
    ensure!(
        !name.is_empty() && (number || identifier),
        "{name:?} is not a name: it takes letters, digits and _, and no digit first"
    );
    ensure!(!KEYWORDS.contains(&name), "{name} is a keyword of Python: choose another name");
    let taken = ATTRIBUTES.contains(&name) || name.starts_with("__");
    ensure!(!taken, "{name} is an attribute of every nn.Module: choose another name");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_an_identifier_or_a_number_that_pytorch_does_not_use() {
        for path in ["conv1", "_conv", "features.0.12", "0", "a.b_2.X", "match", "graph"] {
            assert!(check(path).is_ok(), "{path}");
        }
        for path in
            ["", "a.", ".a", "1a", "01", "a-b", "größe", "a b", "forward", "x.training", "_modules", "__x", "class"]
        {
            assert!(check(path).is_err(), "{path}");
        }
    }
}
