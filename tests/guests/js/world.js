// What a guest sees of the world by WASI. It prints that to its standard output, which is the job's log: a line for each thing.
// JavaScript itself knows of time, random numbers and output alone.

export async function lookAround() {
  console.log(`seconds since 1970: ${Math.floor(Date.now() / 1000)}`);
  const before = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 3_600_000));
  console.log(`seconds that an hour takes: ${Math.round((performance.now() - before) / 1000)}`);
  const random = crypto.getRandomValues(new Uint8Array(16));
  console.log(`random numbers: ${Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")}`);
}
