//! What must hold for the text of a net.

use super::*;
use crate::model::layers::*;
use proptest::prelude::*;

const MISTAKES: &str = include_str!("../../../tests/reference/net_mistakes.txt");
const ORIGINAL: &str = include_str!("../../../nets/original.txt");
const DOCUMENTATION: &str = include_str!("../../../docs/nets.md");
const PRINTED: &str = include_str!("../../../tests/reference/printed_nets.txt");

/// `w1=8,w2=12`
fn values(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn parsed(text: &str) -> Architecture {
    Architecture::parse(text, &values("dropout=0.05")).unwrap_or_else(|error| panic!("{error:#} in\n{text}"))
}

/// The sentence that refuses a net file.
pub(crate) fn refusal(text: &str) -> String {
    format!("{:#}", Architecture::parse(text, &BTreeMap::new()).expect_err(text))
}

#[test]
fn every_mistake_has_its_sentence() {
    let sections: Vec<&str> = MISTAKES.split("\n=== ").skip(1).collect();
    assert!(sections.len() >= 79, "{}", sections.len());
    for section in sections {
        let (sentence, mut text) = section.split_once('\n').unwrap();
        let mut given = BTreeMap::new();
        if let Some((line, rest)) = text.strip_prefix("--- ").and_then(|rest| rest.split_once('\n')) {
            (given, text) = (values(line), rest);
        }
        let error = Architecture::parse(text, &given).expect_err(text);
        let layers = Layer::examples().map(|(class, _)| class).join(", ");
        assert_eq!(format!("{error:#}"), sentence.replace("LAYERS", &layers), "for\n{text}");
    }
}

/// Sections of what print shows, each after `=== ` and before `--- ` and the net's canonical text.
#[test]
fn a_printed_net_can_be_pasted() {
    let sections: Vec<&str> = PRINTED.split("=== ").skip(1).collect();
    assert!(!sections.is_empty());
    for section in sections {
        let (_, section) = section.split_once('\n').unwrap();
        let (printed, canonical) = section.split_once("--- as a net file\n").unwrap();
        let net = parsed(printed);
        assert_eq!(net.to_string().trim(), canonical.trim());
        let lines: Vec<&str> = printed.trim().lines().collect();
        if let [_, inside @ .., ")"] = &lines[..] {
            assert_eq!(parsed(&inside.join("\n")), net, "the inside of\n{printed}");
        }
    }
}

#[test]
fn every_layer_has_an_example_that_prints_as_it_is_read() {
    for (class, text) in Layer::examples() {
        let net = parsed(text);
        assert!(net.layers().iter().any(|named| named.layer.class() == class), "{text}");
        assert_eq!(parsed(&net.to_string()), net);
        assert!(DOCUMENTATION.contains(&format!("`{class}`")), "docs/nets.md does not have {class}");
        let built = crate::model::Net::new(tch::Device::Cpu, &net, crate::model::Kernels::Torch);
        let parameters: usize = built.parameters().map(|(_, tensor)| tensor.numel()).sum();
        assert_eq!(parameters as i64, net.parameters(), "{text}");
    }
}

#[test]
fn the_examples_of_the_documentation_are_right() {
    let examples: Vec<&str> =
        DOCUMENTATION.split("```text\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [net, printed, mistake] = examples[..] else { panic!("{examples:?}") };
    Architecture::parse(net, &values("w1=16,w2=32,dropout=0.05")).unwrap();
    parsed(printed);
    assert!(MISTAKES.contains(&format!("\n=== {mistake}")), "{mistake}");
}

#[test]
fn what_old_versions_of_pytorch_print_is_read() {
    let net =
        parsed("a: Conv2d(1, 4, 3), LeakyReLU(0.1, inplace=True), MaxPool2d(2), Flatten()\nb: Linear(676, 10), ReLU()");
    for printed in [
        // 0.4 and 1.0
        "Net(
  (a): Sequential(
    (0): Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1))
    (1): LeakyReLU(negative_slope=0.1, inplace)
    (2): MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
    (3): Flatten()
  )
  (b): Sequential(
    (0): Linear(in_features=676, out_features=10, bias=True)
    (1): ReLU(inplace)
  )
)",
        // 0.2 and 0.3
        "Net (
  (a): Sequential (
    (0): Conv2d (1, 4, kernel_size=(3, 3), stride=(1, 1))
    (1): LeakyReLU (0.1, inplace)
    (2): MaxPool2d (size=(2, 2), stride=(2, 2), dilation=(1, 1))
    (3): Flatten ()
  )
  (b): Sequential (
    (0): Linear (676 -> 10)
    (1): ReLU ()
  )
)",
    ] {
        assert_eq!(parsed(printed), net, "{printed}");
    }
}

#[test]
fn the_original_prints_as_it_is_written() {
    let original = parsed(ORIGINAL);
    assert_eq!(original.layers().len(), 27);
    assert_eq!(original.layers()[24].path, "convblock7.2");
    assert_eq!(original.layers()[25].output, [14, 1, 1]);
    let first = original.to_string().lines().next().unwrap().to_string();
    assert_eq!(first, "convblock1: Conv2d(1, 16, 3, bias=False), ReLU(), BatchNorm2d(16), Dropout(p=0.05)");
}

#[test]
fn names_are_those_of_pytorch() {
    let text = "one: ReLU()
two: ReLU(), Sequential(ReLU(), Sequential(ReLU())), nn.ReLU()
three: Sequential(torch.nn.ReLU())
(four): Block(
  (act): ReLU()
  (5-6): 2 x ReLU()
)
seven.eight: ReLU()
9: Flatten(), Linear(784, 10)
";
    let net = parsed(text);
    let paths: Vec<&str> = net.layers().iter().map(|named| named.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "one",
            "two.0",
            "two.1.0",
            "two.1.1.0",
            "two.2",
            "three.0",
            "four.act",
            "four.5",
            "four.6",
            "seven.eight",
            "9.0",
            "9.1"
        ]
    );
    let canonical = "one: ReLU()
two: ReLU(), Sequential(ReLU(), Sequential(ReLU())), ReLU()
three: Sequential(ReLU())
four.act: ReLU()
four.5: ReLU()
four.6: ReLU()
seven.eight: ReLU()
9: Flatten(), Linear(784, 10)
";
    assert_eq!(net.to_string(), canonical);
    assert_eq!(parsed(canonical), net);
}

/// The layers of this line in a net; they must end in ten channels.
fn layers(line: &str) -> Vec<Layer> {
    let net = parsed(&format!("a: {line}, AdaptiveAvgPool2d(1)"));
    net.layers().iter().map(|named| named.layer).collect()
}

#[test]
fn arguments_are_bound_as_in_python() {
    let conv = Conv2d {
        in_channels: 1,
        out_channels: 10,
        kernel_size: [3, 5],
        stride: [1, 1],
        padding: [2, 4],
        dilation: [2, 2],
        groups: 1,
        bias: false,
        padding_mode: PaddingMode::Zeros,
    };
    for text in [
        "Conv2d(1, 10, (3, 5), 1, (2, 4), 2, 1, False, 'zeros', None, None)",
        "Conv2d(1, 10, (3, 5), padding='same', dilation=2, bias=False)",
        "Conv2d(1, 10, kernel_size=(3, 5), stride=(1, 1), padding=same, dilation=(2, 2), bias=False)",
        "Conv2d(bias=False, dilation=[2, 2], padding=(2, 4,), kernel_size=[3, 5], out_channels=10, in_channels=1, device=None)",
        "nn.Conv2d(\n  1,  # a grey image\n  10,\n  (3, 5), padding = (2, 4), dilation = (2), bias = False,\n)",
    ] {
        assert_eq!(layers(text)[0], Layer::Conv2d(conv), "{text}");
    }
    let head = "Conv2d(1, 10, 3)";
    for (text, layer) in [
        ("MaxPool2d(3, None, 1)", "MaxPool2d(3, padding=1)"),
        ("MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)", "MaxPool2d(2)"),
        (
            "MaxPool2d((3, 2), 2, 1, 2, False, True)",
            "MaxPool2d((3, 2), stride=2, padding=1, dilation=2, ceil_mode=True)",
        ),
        ("AvgPool2d(2, 1, 1, False, False, None)", "AvgPool2d(2, stride=1, padding=1, count_include_pad=False)"),
        ("AdaptiveAvgPool2d((None, 7))", "AdaptiveAvgPool2d((26, 7))"),
        ("AdaptiveAvgPool2d(output_size=(None, None))", "AdaptiveAvgPool2d(26)"),
        ("BatchNorm2d(10, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)", "BatchNorm2d(10)"),
        ("BatchNorm2d(10, 1e-3, .5)", "BatchNorm2d(10, eps=0.001, momentum=0.5)"),
        ("BatchNorm2d(10, eps=1e-7)", "BatchNorm2d(10, eps=1e-07)"),
        ("Dropout()", "Dropout()"),
        ("Dropout(p=0, inplace=False)", "Dropout(p=0.0)"),
        ("Dropout2d(0.25, True)", "Dropout2d(p=0.25)"),
        ("LeakyReLU(negative_slope=0.01, inplace=True)", "LeakyReLU()"),
        ("LeakyReLU(-1)", "LeakyReLU(negative_slope=-1.0)"),
        ("GELU(approximate='none')", "GELU()"),
        ("GELU(\"tanh\")", "GELU(approximate='tanh')"),
        ("SiLU(inplace=True)", "SiLU()"),
        ("Identity(54, unused_argument1=0.1, unused_argument2='no')", "Identity()"),
        ("Conv2d(10, 10, 3, groups=5, padding='valid')", "Conv2d(10, 10, 3, groups=5)"),
    ] {
        assert_eq!(layers(&format!("{head}, {text}"))[1].to_string(), layer, "{text}");
    }
}

#[test]
fn the_end_is_ten_features_or_a_channel_for_each_class() {
    for text in [
        "a: Conv2d(1, 10, 28)",
        "a: Conv2d(1, 10, 28), LogSoftmax(dim=1)",
        "a: Conv2d(1, 10, 28), LogSoftmax(-3)",
        "a: Conv2d(1, 10, 28), Flatten(1, end_dim=3), LogSoftmax(-1)",
        "a: Flatten(start_dim=1, end_dim=-1), Linear(in_features=784, out_features=10, bias=True), LogSoftmax()",
    ] {
        let net = parsed(text);
        assert_eq!(net.ends_in_log_softmax(), text.contains("LogSoftmax"), "{text}");
        assert_eq!(net.to_string().contains("LogSoftmax(dim=1)"), text.contains("LogSoftmax"), "{text}");
    }
    assert_eq!(parsed("a: Conv2d(1, 10, 28), Softmax(1)"), parsed("a: Conv2d(1, 10, 28), LogSoftmax(1)"));
}

#[test]
fn placeholders_stand_for_values() {
    let text = "# {unknown} in a comment\na: Conv2d(1, { w }, ({k}, 3), bias={b}), Dropout({dropout})\nb: Conv2d({w}, 10, (26, 26))";
    let given = BTreeMap::from([("w", "12"), ("k", "3"), ("b", "False"), ("dropout", "1e-3")])
        .into_iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let net = Architecture::parse(text, &given).unwrap();
    assert_eq!(net.to_string(), "a: Conv2d(1, 12, 3, bias=False), Dropout(p=0.001)\nb: Conv2d(12, 10, 26)\n");
    assert!(Architecture::parse(&net.to_string(), &values("dropout=0.5")).is_ok(), "dropout may be unused");
    // A default is for the rest of the file; a value wins over it.
    let text = "a: Conv2d(1, {w: 12}, 3)\nb: Conv2d({w}, 10, (26, {k:26}))";
    for (given, width) in [("", 12), ("w=7", 7)] {
        let expected = format!("a: Conv2d(1, {width}, 3)\nb: Conv2d({width}, 10, 26)\n");
        assert_eq!(Architecture::parse(text, &values(given)).unwrap().to_string(), expected);
    }
}

#[test]
fn a_net_of_absurd_size_is_refused() {
    let many = vec!["ReLU()"; 1001].join(", ");
    assert_eq!(refusal(&format!("a: {many}")), "line 1, a.1000: a net has at most 1000 layers");
    let nested = (0..3).fold("ReLU()".to_string(), |inside, _| format!("Net(\n(0-999): 1000 x {inside}\n)"));
    assert_eq!(refusal(&nested), "line 4, 0.1.0: a net has at most 1000 layers");
    let deep = format!("a: {}ReLU(){}", "Sequential(".repeat(1_000_000), ")".repeat(1_000_000));
    assert_eq!(refusal(&deep), "line 1: more than 32 brackets are open");
    let deep = format!("a: ReLU({}", "[".repeat(1_000_000));
    assert_eq!(refusal(&deep), "line 1: more than 32 brackets are open");
    let values = vec!["1"; 1_000_000].join(", ");
    assert_eq!(refusal(&format!("a: Identity({values})")), "line 1: Identity is given more than 32 arguments");
    assert_eq!(refusal(&format!("a: ReLU([{values}])")), "line 1: a tuple has more than 32 values");
    for long in [format!("a{}: ReLU()", ".a".repeat(1_000_000)), format!("a: Re{}LU()", "e".repeat(1_000_000))] {
        assert_eq!(refusal(&long), "line 1: a word has more than 100 characters");
    }
    let wide = "a: Conv2d(1, 1000000, 1000000, 1000000, 1000000, 1000000)";
    assert!(refusal(wide).contains("does not fit"), "{}", refusal(wide));
    let wide = "a: Conv2d(1, 1000000, 1000000, padding=1000000)";
    assert!(refusal(wide).contains("more than 10 million parameters"), "{}", refusal(wide));
    let wide = "a: Conv2d(1, 1, 1, padding=1000000)";
    assert!(refusal(wide).contains("more than 10 million numbers"), "{}", refusal(wide));
}

/// The numbers that [`layer`] makes a layer of.
type Dice = [u8; 8];

/// A layer that takes an input of the shape `input`.
fn layer(dice: Dice, input: &[i64]) -> Layer {
    let [kind, a, b, c, d, e, f, g] = dice.map(i64::from);
    let fraction = f64::from(dice[1]) / 300.;
    let anywhere: [Layer; 6] = [
        ReLU.into(),
        SiLU.into(),
        Identity.into(),
        GELU { approximate: if a % 2 == 0 { Approximate::Tanh } else { Approximate::None } }.into(),
        LeakyReLU { negative_slope: (fraction - 0.4) * 10f64.powi(d as i32 % 40 - 20) }.into(),
        Dropout { p: fraction }.into(),
    ];
    let [channels, height, width] = *input else {
        let linear: Layer = Linear { in_features: input[0], out_features: a + 1, bias: b % 2 == 0 }.into();
        return if kind % 2 == 0 { linear } else { anywhere[a as usize % anywhere.len()] };
    };
    let within = |size: i64, choice: i64| 1 + choice % size.min(5);
    let kernel_size = [within(height, a), within(width, b)];
    let stride = [1 + c % 3, 1 + d % 2];
    let pads = [e % (kernel_size[0] / 2 + 1), f % (kernel_size[1] / 2 + 1)];
    let flags = [g % 2 == 0, g / 2 % 2 == 0];
    match kind % 10 {
        0..=2 => {
            let groups = if g % 3 == 0 { channels } else { 1 };
            Layer::Conv2d(Conv2d {
                in_channels: channels,
                out_channels: groups * (1 + c % 4),
                kernel_size,
                stride,
                padding: [e % 4, f % 4],
                dilation: [1, 1],
                groups,
                bias: flags[0],
                // The other modes need as many rows as they add.
                padding_mode: if flags[1] { PaddingMode::Replicate } else { PaddingMode::Zeros },
            })
        }
        3 => {
            let eps = (fraction + 0.1) * 1e-5;
            BatchNorm2d { num_features: channels, eps, momentum: fraction, affine: flags[0] }.into()
        }
        4 => MaxPool2d { kernel_size, stride, padding: pads, dilation: [1, 1], ceil_mode: flags[0] }.into(),
        5 => AvgPool2d { kernel_size, stride, padding: pads, ceil_mode: flags[0], count_include_pad: flags[1] }.into(),
        6 => Dropout2d { p: fraction }.into(),
        7 => AdaptiveAvgPool2d { output_size: [1 + a % 9, 1 + b % 9] }.into(),
        8 if g % 4 == 0 => Flatten.into(),
        _ => anywhere[a as usize % anywhere.len()],
    }
}

/// The next path: of a member of its own, or in the container of the path before, at some depth.
fn next_path(last: &str, choice: u8, number: usize) -> String {
    let mut parts: Vec<String> = last.split('.').map(str::to_string).collect();
    let level = usize::from(choice) % parts.len();
    parts[level] = match parts[level].parse::<usize>() {
        Ok(index) => (index + 1 + usize::from(choice) / 200).to_string(),
        Err(_) => format!("m{number}"),
    };
    parts.truncate(level + 1);
    match choice / 8 % 4 {
        0 => {}
        1 => parts.push("0".to_string()),
        2 => parts.extend(["0", "0"].map(str::to_string)),
        _ => parts.push(format!("x{number}")),
    }
    parts.truncate(6);
    parts.join(".")
}

/// A net of layers that fit each other.
fn architecture(dice: &[(u8, Dice)]) -> Architecture {
    let mut builder = Builder::default();
    let mut path = "m".to_string();
    for (number, &(choice, dice)) in dice.iter().enumerate() {
        path = next_path(&path, choice, number);
        builder.push(path.clone(), layer(dice, &builder.shape())).unwrap();
    }
    builder.push("flat".to_string(), Flatten.into()).unwrap();
    let in_features = builder.shape()[0];
    builder.push("linear".to_string(), Linear { in_features, out_features: 10, bias: true }.into()).unwrap();
    builder.finish().unwrap()
}

/// A text that was changed in some places: part of it is put somewhere else, or a few characters are.
fn mutated(text: &str, edits: &[(usize, usize, usize, String)]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for (from, length, to, inserted) in edits {
        let from = from % characters.len();
        let end = (from + length % 20).min(characters.len());
        let mut part: Vec<char> = characters.drain(from..end).collect();
        part.extend(inserted.chars());
        let to = to % (characters.len() + 1);
        characters.splice(to..to, part);
    }
    characters.into_iter().collect()
}

proptest! {
    #[test]
    fn the_text_of_a_net_makes_the_same_net(dice in prop::collection::vec(any::<(u8, Dice)>(), 0..30)) {
        let net = architecture(&dice);
        let text = net.to_string();
        prop_assert_eq!(&Architecture::parse(&text, &BTreeMap::new()).unwrap(), &net, "{}", text);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "([a-z0-9.:,=()\\[\\]{}'#\n -]|ReLU|Sequential|Conv2d|\\(a\\): |1e9|\\PC){0,60}") {
        let _ = Architecture::parse(&text, &values("dropout=0.05"));
    }

    #[test]
    fn a_changed_net_is_parsed_or_refused(
        printed in any::<bool>(),
        edits in prop::collection::vec((0..5000usize, 0..20usize, 0..5000usize, "[0-9(),:=\n-]{0,3}"), 1..4),
    ) {
        let text = mutated(if printed { PRINTED.split("=== ").nth(1).unwrap() } else { ORIGINAL }, &edits);
        if let Ok(net) = Architecture::parse(&text, &values("dropout=0.05")) {
            prop_assert_eq!(&parsed(&net.to_string()), &net);
        }
    }
}
