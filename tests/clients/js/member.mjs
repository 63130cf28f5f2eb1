// A member of a call, in a process of its own so that it can be killed: joins the room's MatrixRTC session with the SDK's own membership
// manager, and tells its parent of each heartbeat. Usage (by matrixrtc.mjs): node member.mjs BASE SESSION ROOM DELAY RESTART
import { started } from "./common.mjs";

const [baseUrl, session, roomId, delay, restart] = process.argv.slice(2);
const tell = (what, at = Date.now()) => process.send({ what, at });

// The SDK's requests as they are; heartbeats are noted on their way. Their beginning is the stricter moment to count from.
const fetchFn = async (url, options) => {
    const at = Date.now();
    const response = await fetch(url, options);
    if (/\/delayed_events\/[^/]+\/restart$/.test(new URL(url).pathname)) tell(response.ok ? "heartbeat" : "refused", at);
    return response;
};

const client = await started(baseUrl, JSON.parse(session), { fetchFn });
const rtc = client.matrixRTC.getRoomSession(client.getRoom(roomId));
rtc.on("membership_manager_error", (error) => tell(`failed: ${error}`));
const identity = { userId: client.getUserId(), deviceId: client.getDeviceId(), memberId: `${client.getUserId()}:${client.getDeviceId()}` };
const focus = { type: "livekit", livekit_service_url: "https://sfu.invalid", livekit_alias: roomId };
rtc.joinRTCSession(identity, [focus], undefined, {
    delayedLeaveEventDelayMs: Number(delay),
    delayedLeaveEventRestartMs: Number(restart),
});
// Killed, or orphaned.
process.on("disconnect", () => process.exit());
