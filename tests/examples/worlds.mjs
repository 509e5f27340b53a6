// Tests in a world each: node worlds.mjs URL NAME TESTS. It prints how many have found their world as they left it.
const [url, name, tests] = process.argv.slice(2);
const root = url.replace("/zstack/v1", `/w/${name}`);
const password = "b109f3bbbc244eb82441917ed06d618b9008dd09b3befd1b5e07394c706a8bb980b1d7785e5976ec049b46df5f1326af5a2ea6d103fd07c95385ffab0cacbc86";

async function call(method, path, body, session) {
  const headers = { "Content-Type": "application/json", ...(session && { Authorization: `OAuth ${session}` }) };
  const answer = await fetch(path.startsWith("http") ? path : root + path, { method, headers, body: body && JSON.stringify(body) });
  return { status: answer.status, body: await answer.json() };
}

let passed = 0;
for (let n = 0; n < tests; n++) {
  await call("POST", "/zmock/reset", { cloud: "empty" });
  const login = { logInByAccount: { accountName: "admin", password } };
  const session = (await call("PUT", "/zstack/v1/accounts/login", login)).body.inventory.uuid;
  const { body: { location } } = await call("POST", "/zstack/v1/zones", { params: { name: `${name}-${n}` } }, session);
  await call("POST", "/zmock/clock", { advance: 1 });
  const polled = await call("GET", location, undefined, session);
  const { body: { inventories } } = await call("GET", "/zstack/v1/zones", undefined, session);
  passed += polled.status === 200 && inventories.length === 1 && inventories[0].name === `${name}-${n}`;
}
console.log(passed);
