//! Finding rooms and people: the directory, previews, spaces, the user directory.

mod aliases;
mod hierarchy;
mod mutual_rooms;
mod public_rooms;
mod room_summary;
mod user_directory;
mod visibility;

use http::Method;

use crate::routes::Routes;

const V1: &str = "/_matrix/client/v1";
const V3: &str = "/_matrix/client/v3";
const MSC3266: &str = "/_matrix/client/unstable/im.nheko.summary";

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, &format!("{V3}/rooms/{{room}}/aliases"), aliases::aliases);
    routes.add(Method::GET, &format!("{V3}/directory/list/room/{{room}}"), visibility::get);
    routes.add(Method::PUT, &format!("{V3}/directory/list/room/{{room}}"), visibility::set);
    routes.add(Method::GET, &format!("{V3}/publicRooms"), public_rooms::all);
    routes.add(Method::POST, &format!("{V3}/publicRooms"), public_rooms::some);
    routes.add(Method::GET, &format!("{V1}/rooms/{{room}}/hierarchy"), hierarchy::hierarchy);
    routes.add(Method::GET, &format!("{V1}/room_summary/{{room}}"), room_summary::stable);
    routes.add(Method::GET, &format!("{MSC3266}/rooms/{{room}}/summary"), room_summary::unstable);
    routes.add(Method::GET, &format!("{MSC3266}/summary/{{room}}"), room_summary::unstable);
    routes.add(Method::GET, &format!("{V1}/mutual_rooms"), mutual_rooms::mutual_rooms);
    routes.add(Method::POST, &format!("{V3}/user_directory/search"), user_directory::search);
}
