//! What the demo does, in order: uploads half of the products and shows them on their way; uploads
//! the rest and kills the server in the middle of it; shows that nothing is missing; says what to
//! try next.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::Client;
use crate::follow::{self, Message, follow};
use crate::place::Place;
use crate::server::{Server, Target};
use crate::services::image_processing::Folders;
use crate::services::{Service, ai_enhancement, seo_generation, serve};
use crate::show::Show;

/// Long enough to see that nothing moves.
const DOWN: Duration = Duration::from_secs(1);

pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Everything that is running.
pub struct Story {
    pub server: Server,
    pub client: Client,
    pub show: Show,
    place: Place,
    products: Vec<Value>,
    /// Makes the keys of this run's uploads different from those of earlier runs.
    run: u128,
    _services: [Service; 3],
}

/// A product on its way.
#[derive(Debug, Clone)]
pub struct Uploaded {
    pub name: String,
    pub workflow_id: String,
}

impl Story {
    /// Starts services and server.
    pub async fn begin(place: Place) -> Result<Self, Error> {
        let show = Show::new();
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
        let products = serde_json::from_slice(&fs::read(data.join("products.json"))?)?;
        let folders = Folders { originals: data, processed: place.pictures() };
        let services = [
            serve(move |workflow_id: &str, input| folders.process(workflow_id, input)).await?,
            serve(ai_enhancement::enhance).await?,
            serve(seo_generation::generate).await?,
        ];
        let [image, ai, seo] = &services;
        let targets = [
            Target { name: "image", step_type: "image_processing", address: image.address },
            Target { name: "ai", step_type: "ai_enhancement", address: ai.address },
            Target { name: "seo", step_type: "seo_generation", address: seo.address },
        ];
        let server = Server::start(&place, &targets).await?;
        let client = Client::new(server.port);
        show.heading("Crux is running, and three services that know nothing of it but an address:");
        for Target { name, step_type, address } in targets {
            println!("  {name:<6} http://{address}/  does {step_type}");
        }
        println!(
            "  server {}  process {}, log {}",
            client.base(),
            server.pid().unwrap_or_default(),
            place.log().display()
        );
        let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        Ok(Self { server, client, show, place, products, run, _services: services })
    }

    /// All acts; gives back what was uploaded.
    pub async fn tell(&mut self) -> Result<Vec<Uploaded>, Error> {
        let half = self.products.len().div_ceil(2);
        let indices: Vec<usize> = (0..self.products.len()).collect();
        let (first, second) = indices.split_at(half);
        self.show.heading(&format!(
            "{} products are uploaded; what you see comes from the WebSocket, live:",
            first.len()
        ));
        let mut all = self.upload_and_watch(first, false).await?;
        self.show.heading(&format!(
            "{} more, and in the middle of it the server is killed:",
            second.len()
        ));
        all.extend(self.upload_and_watch(second, true).await?);
        self.documents(&all).await?;
        Ok(all)
    }

    /// Uploads products concurrently and shows them until all have ended. With `kill`, the server
    /// dies when the first step is done.
    async fn upload_and_watch(
        &mut self,
        which: &[usize],
        kill: bool,
    ) -> Result<Vec<Uploaded>, Error> {
        let mut uploaded = Vec::new();
        let mut followers = JoinSet::new();
        let (to, mut messages) = mpsc::channel(64);
        for &index in which {
            let Some(product) = self.products.get(index) else { continue };
            let name = product.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let workflow_id =
                self.client.upload(product, &format!("demo-{}-{index}", self.run)).await?;
            followers.spawn(tagged(
                self.server.port,
                uploaded.len(),
                workflow_id.clone(),
                to.clone(),
            ));
            uploaded.push(Uploaded { name, workflow_id });
        }
        drop(to);
        let mut kill = kill;
        while let Some((index, message)) = messages.recv().await {
            if let Some(product) = uploaded.get(index) {
                self.show.message(&product.name, &message);
            }
            if kill && message.r#type == "step_completed" {
                kill = false;
                self.kill_and_start_again().await?;
            }
        }
        while let Some(ended) = followers.join_next().await {
            ended??;
        }
        Ok(uploaded)
    }

    async fn kill_and_start_again(&mut self) -> Result<(), Error> {
        let pid = self.server.pid().unwrap_or_default();
        self.server.kill().await?;
        self.show.event(&format!("kill -9 {pid}: the server is gone"));
        sleep(DOWN).await;
        self.server.start_again().await?;
        self.show.event(&format!(
            "started again as process {}: it reads its journal and goes on",
            self.server.pid().unwrap_or_default()
        ));
        Ok(())
    }

    /// Writes all final documents, shows what came out, and one document whole.
    async fn documents(&self, all: &[Uploaded]) -> Result<(), Error> {
        let folder = self.place.documents();
        fs::create_dir_all(&folder)?;
        let mut shown = None;
        let mut completed = 0;
        self.show.heading("What the shop has now:");
        for product in all {
            let document = self.client.status(&product.workflow_id).await?;
            fs::write(
                folder.join(format!("{}.json", product.workflow_id)),
                serde_json::to_vec_pretty(&document)?,
            )?;
            let text = |pointer: &str| {
                document.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
            };
            let status = text("/metadata/status");
            completed += usize::from(status == "completed");
            println!(
                "\n  {}{}{}  {status}",
                self.show.style.strong, product.name, self.show.style.plain
            );
            println!("    address      /{}", text("/output/slug"));
            println!("    title        {}", text("/output/title"));
            println!("    for Google   {}", text("/output/meta_description"));
            println!("    pictures     {}", texts(document.pointer("/output/images")).join(", "));
            println!("    keywords     {}", texts(document.pointer("/output/keywords")).join(", "));
            shown = Some(document);
        }
        self.show.heading("The last one's document, as GET /api/v1/workflow/status gives it:");
        if let Some(document) = shown {
            println!("{}", serde_json::to_string_pretty(&document)?);
        }
        println!("\n{completed} of {} completed. All documents: {}", all.len(), folder.display());
        println!("The pictures: {}", self.place.pictures().display());
        if completed < all.len() {
            return Err(format!("{} products did not complete", all.len() - completed).into());
        }
        Ok(())
    }
}

async fn tagged(
    port: u16,
    index: usize,
    workflow_id: String,
    to: mpsc::Sender<(usize, Message)>,
) -> Result<(), follow::Error> {
    let (sender, mut receiver) = mpsc::channel(16);
    let forward = async {
        while let Some(message) = receiver.recv().await {
            if to.send((index, message)).await.is_err() {
                return;
            }
        }
    };
    let followed = async {
        let sender = sender;
        follow(port, &workflow_id, &sender).await
    };
    let (followed, ()) = tokio::join!(followed, forward);
    followed
}

fn texts(value: Option<&Value>) -> Vec<&str> {
    value
        .and_then(Value::as_array)
        .map(|all| all.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}
