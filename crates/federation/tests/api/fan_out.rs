//! One event for the servers of a large room, many of them dead.

use testkit::{crowd::Crowd, world::World};

use crate::{
    far::Far,
    outbound::{Running, until},
};

const SERVERS: usize = 120;
const DEAD: usize = 30;

#[tokio::test]
async fn dead_servers_hold_up_no_living_ones() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::outside(&here, &there, "11", "shared").await;
    let crowd = Crowd::gather(&world, SERVERS);
    crowd.join(&here, &far.room, &far.alice).await;
    crowd.kill(&world, DEAD);
    crowd.take_told();
    let running = Running::of(&here);
    for round in 0..3 {
        far.say(&format!("round {round}")).await;
        until("all that live have it", || crowd.told() == SERVERS - DEAD).await;
        let told = crowd.take_told();
        assert!(crowd.names()[..DEAD].iter().all(|dead| !told.contains(dead)));
    }
    running.end().await;
}
