//! Fashion-MNIST: pictures of clothes (Zalando Research).

use super::{Facts, Published};

// The first address, a website on S3, has no HTTPS.
pub(super) const FACTS: Facts = Facts {
    name: "fashion-mnist",
    title: "Fashion-MNIST",
    about: "Pictures of clothes (Zalando)",
    classes: ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"],
    torchvision: "FashionMNIST/raw",
    mirrors: &[
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    ],
    published: Published::Unpacked([
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ]),
    setup_has_a_package: true,
};
