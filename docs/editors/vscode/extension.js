// Starts `steer lsp` for the scripts that are open.

const { workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

function activate() {
    const settings = workspace.getConfiguration("steer");
    const model = settings.get("model");
    const server = {
        command: settings.get("path") || "steer",
        args: model ? ["lsp", "--model", model] : ["lsp"],
    };
    client = new LanguageClient("steer", "steer", server, {
        documentSelector: [{ language: "steer" }],
        synchronize: { fileEvents: workspace.createFileSystemWatcher("**/{*.steer,config.json}") },
    });
    return client.start();
}

function deactivate() {
    return client && client.stop();
}

module.exports = { activate, deactivate };
