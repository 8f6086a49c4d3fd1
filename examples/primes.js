// Print the primes below a number: `rgrid run examples/primes.js 50`.
const limit = Number(process.argv[2] ?? 30);
const primes = [];
for (let n = 2; n < limit; n++) if (!primes.some((p) => n % p === 0)) primes.push(n);
console.log(`${primes.length} primes below ${limit}: ${primes.join(" ")}`);
console.error(`by Node ${process.versions.node.split(".")[0]}`);
