//! The page to draw digits on. Its back end is a server, or the net itself, in plain JavaScript.

use anyhow::Result;
use minijinja::{AutoEscape, Environment, Value, context};

/// A net as JavaScript.
pub(crate) struct Script {
    /// The functions that its layers call.
    pub(crate) functions: Vec<&'static str>,
    /// The path of each, and what it computes of `x`.
    pub(crate) layers: Vec<(String, String)>,
    /// The file of the weights as text: see `torch_weights::html`.
    pub(crate) weights: String,
    /// The mean and the standard deviation of the pixels that it was trained on, from 0 to 1.
    pub(crate) normalisation: [String; 2],
}

/// The page of a server. `about` says which net it serves.
pub(crate) fn of_server(about: &str) -> Result<String> {
    render(context! { about, pictures => true, back_end => "server.js" })
}

/// The page with a net in it, which needs nothing else. `about` says which net it is.
pub(crate) fn of_net(about: &str, net: Script) -> Result<String> {
    let Script { functions, layers, weights, normalisation: [mean, std] } = net;
    let weights = Value::from_safe_string(weights);
    render(context! { about, back_end => "net.js", scripts => functions, layers, weights, mean, std })
}

fn render(values: Value) -> Result<String> {
    let mut environment = Environment::new();
    environment
        .set_auto_escape_callback(|name| if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None });
    for (name, text) in [
        ("page.html", include_str!("page.html")),
        ("server.js", include_str!("server.js")),
        ("net.js", include_str!("net.js")),
        ("drawing.js", include_str!("drawing.js")),
    ] {
        environment.add_template(name, text)?;
    }
    Ok(environment.get_template("page.html")?.render(values)?)
}
