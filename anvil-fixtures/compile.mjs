// Compiles contracts/ with the pinned solc into artifacts/, which is committed, so that running the
// tests needs no compiler.
//
//   node compile.mjs           write artifacts/
//   node compile.mjs --check   write nothing; exit 1 and name each file that is not what it should be
//
// The output depends on the sources, the settings below and the compiler only: no path, no time, and no
// metadata hash in the bytecode (it would change with every comment).

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const CONTRACTS = join(HERE, "contracts");
const ARTIFACTS = join(HERE, "artifacts");

const SETTINGS = {
  optimizer: { enabled: true, runs: 200 },
  // The oldest EVM with everything we use: the bytecode also runs on chains that are behind Ethereum.
  evmVersion: "paris",
  metadata: { bytecodeHash: "none" },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } },
};

function fail(message) {
  console.error(`compile.mjs: ${message}`);
  process.exit(1);
}

function loadSolc() {
  const require = createRequire(import.meta.url);
  const pinned = require("./package.json").devDependencies.solc;
  let solc;
  try {
    solc = require("solc");
  } catch (error) {
    if (error.code === "MODULE_NOT_FOUND") fail("solc is not installed; run `npm ci` in anvil-fixtures");
    throw error;
  }
  if (!solc.version().startsWith(`${pinned}+`)) {
    fail(`solc ${solc.version()} is installed, package.json pins ${pinned}; run \`npm ci\` in anvil-fixtures`);
  }
  return solc;
}

/** Every .sol file, by its path under contracts/, sorted. */
function readSources() {
  const paths = readdirSync(CONTRACTS, { recursive: true })
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => path.endsWith(".sol"))
    .sort();
  return Object.fromEntries(
    paths.map((path) => [path, { content: readFileSync(join(CONTRACTS, path), "utf8").replaceAll("\r\n", "\n") }]),
  );
}

/** Map from artifact file name to its text. Each Name.sol directly in contracts/ must define contract Name. */
function compile() {
  const solc = loadSolc();
  const sources = readSources();
  const output = JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources, settings: SETTINGS })));
  // A warning in thirty-line contracts is a mistake too.
  if (output.errors?.length) fail(`\n${output.errors.map((error) => error.formattedMessage).join("\n")}`);

  const artifacts = new Map();
  for (const path of Object.keys(sources)) {
    if (path.includes("/")) continue; // lib/: inlined into those that use it
    const contractName = path.slice(0, -".sol".length);
    const contract = output.contracts[path]?.[contractName];
    if (!contract) fail(`contracts/${path} defines no contract ${contractName}`);
    const artifact = {
      contractName,
      compiler: solc.version(),
      abi: contract.abi,
      bytecode: `0x${contract.evm.bytecode.object}`,
    };
    artifacts.set(`${contractName}.json`, `${JSON.stringify(artifact, null, 2)}\n`);
  }
  return artifacts;
}

function existing() {
  try {
    return readdirSync(ARTIFACTS);
  } catch (error) {
    if (error.code === "ENOENT") return [];
    throw error;
  }
}

function check(artifacts) {
  const present = existing();
  const wrong = present.filter((file) => !artifacts.has(file)).map((file) => `artifacts/${file}: has no contract`);
  for (const [file, text] of artifacts) {
    if (!present.includes(file)) wrong.push(`artifacts/${file}: is missing`);
    else if (readFileSync(join(ARTIFACTS, file), "utf8").replaceAll("\r\n", "\n") !== text) {
      wrong.push(`artifacts/${file}: differs from what its source compiles to`);
    }
  }
  if (wrong.length) fail(`run \`npm run compile\`:\n${wrong.sort().join("\n")}`);
  console.log(`${artifacts.size} artifacts are up to date`);
}

function write(artifacts) {
  mkdirSync(ARTIFACTS, { recursive: true });
  for (const file of existing()) if (!artifacts.has(file)) rmSync(join(ARTIFACTS, file));
  for (const [file, text] of artifacts) writeFileSync(join(ARTIFACTS, file), text);
  console.log(`wrote ${artifacts.size} artifacts`);
}

const args = process.argv.slice(2);
if (args.length === 0) write(compile());
else if (args.length === 1 && args[0] === "--check") check(compile());
else fail("usage: node compile.mjs [--check]");
