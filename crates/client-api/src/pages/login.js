"use strict";
const form = document.getElementById("login");
const error = document.getElementById("error");
form.addEventListener("submit", async (event) => {
    event.preventDefault();
    error.textContent = "";
    const request = {
        type: "m.login.password",
        identifier: { type: "m.id.user", user: form.elements.user.value },
        password: form.elements.password.value,
    };
    // What the client wants of the session; nothing that lets anybody in is ever taken from the address.
    const wishes = new URLSearchParams(window.location.search);
    for (const name of ["device_id", "initial_device_display_name"]) {
        if (wishes.has(name)) {
            request[name] = wishes.get(name);
        }
    }
    if (wishes.get("refresh_token") === "true") {
        request.refresh_token = true;
    }
    try {
        const response = await fetch("/_matrix/client/v3/login", { method: "POST", body: JSON.stringify(request) });
        const answer = await response.json();
        if (!response.ok) {
            error.textContent = answer.error || "The server refused.";
            return;
        }
        form.hidden = true;
        document.getElementById("done").hidden = false;
        if (window.matrixLogin && window.matrixLogin.onLogin) {
            window.matrixLogin.onLogin(answer);
        }
    } catch (failure) {
        error.textContent = "The server can't be reached.";
    }
});
