//! Posts a burst to the nearest of several regions and follows it, whichever of them are there.
//!
//! `cargo run --example burst -- http://127.0.0.1:7420 http://127.0.0.1:7430`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use warbler_client::{Client, Followed, Happening, NewMessage, Wait, random_key};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::builder().regions(std::env::args().skip(1)).adopt(true).build()?;
    let space = client.space("main");
    space.create("general").await?;
    let mut follow = space.follow(&["general"], None).await?;
    for number in 1..=5 {
        let body = format!("message {number}");
        let message = NewMessage { body: &body, author: "ann", ..NewMessage::default() };
        // Every try, in whatever region, goes out under this key: the message shows once.
        let wait = Wait { durability: Some("majority".to_owned()), timeout: None };
        let (_, receipt) = space.post("general", &message, &random_key()?, &wait).await?;
        println!("posted {body}, on disk in {:?}", receipt.durability.regions);
    }
    loop {
        let next = follow.next().await?;
        let Happening::Arrived(Followed::Message { message, .. }) = &next else {
            println!("{next:?}");
            continue;
        };
        println!("{}: {}", message.author, message.body);
        if message.body == "message 5" {
            return Ok(());
        }
    }
}
