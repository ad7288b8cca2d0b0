# node: libuv calls statx and others through syscall(), and works from a thread pool.
. "$HERE/lib/harness.bash"
needs_program "node" node || exit 0
make_fixture

like_plain "node: fs.promises on lower files" <<'BODY'
cat >"$OUT/s.mjs" <<'JS'
import fs from 'node:fs/promises';
console.log(await fs.readFile('README', 'utf8'));
await fs.appendFile('README', 'appended\n'); await fs.writeFile('src/u1.c', 'new\n');
await fs.rename('src/u2.c', 'src/renamed.c');
await fs.unlink('src/u3.c');
await fs.copyFile('README', 'src/u4.c');
await fs.symlink('README', 'soft');
await fs.link('README', 'hard');
await fs.chmod('src/u5.c', 0o600);
await fs.truncate('src/u6.c', 3);
await fs.utimes('src/u7.c', 1e9, 1e9); await fs.mkdir('a/b/c', { recursive: true });
const s = await fs.stat('src/u7.c');
console.log(s.size, s.mtimeMs, s.mode, s.nlink);
console.log((await fs.lstat('link')).isSymbolicLink(), await fs.readlink('link'), await fs.realpath('linkdir'));
const h = await fs.open('src/u8.c', 'r+');
await h.write('XX', 0);
console.log((await h.stat()).size);
await h.close();
for (const f of ['missing', 'src/u3.c', 'README/x']) await fs.stat(f).catch(e => console.log(e.code)); await fs.rmdir('src').catch(e => console.log(e.code)); await fs.open('README', 'wx').catch(e => console.log(e.code));
console.log((await Promise.all(Array.from({ length: 200 }, (_, i) => fs.readFile(`many/${i + 1}.txt`, 'utf8')))).join('').length);
await Promise.all(Array.from({ length: 200 }, (_, i) => fs.appendFile(`many/${i + 1}.txt`, 'x')));
JS
node "$OUT/s.mjs"; rm "$OUT/s.mjs"
BODY

like_plain "node: cp and rm recursive, rename of a tree, readdir, opendir, streams" <<'BODY'
cat >"$OUT/s.mjs" <<'JS'
import fs from 'node:fs';
import fsp from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import path from 'node:path';
await fsp.cp('src', 'copy', { recursive: true, preserveTimestamps: false });
await fsp.rm('src', { recursive: true });
await fsp.rename('copy', 'src');
await fsp.rename('many', 'lots');
console.log((await fsp.readdir('.', { withFileTypes: true })).map(d => d.name + ':' + (d.isDirectory() ? 'd' : d.isSymbolicLink() ? 'l' : d.isFIFO() ? 'p' : 'f')).sort().join(' '));
console.log((await fsp.readdir('src', { recursive: true })).sort().join(' '));
let n = 0;
for await (const e of await fsp.opendir('lots')) n++;
console.log(n);
await pipeline(fs.createReadStream('big'), fs.createWriteStream('big2'));
console.log(fs.statSync('big2').size);
fs.rmSync('doc', { recursive: true, force: true });
fs.mkdtempSync('tmp-').length;
for (const d of fs.readdirSync('.').filter(f => f.startsWith('tmp-'))) fs.rmdirSync(d); console.log(fs.existsSync('doc'), process.cwd() === process.env.T, path.resolve('x') === process.env.T + '/x'); process.chdir('src'); console.log(process.cwd() === process.env.T + '/src', fs.realpathSync.native('.') === process.env.T + '/src');
JS
node "$OUT/s.mjs"; rm "$OUT/s.mjs"
BODY

like_plain "node: modules and child processes of the overlay" <<'BODY'
mkdir -p node_modules/thing && echo 'module.exports = () => "thing from " + __dirname.slice(process.env.T.length)' >node_modules/thing/index.js
echo 'console.log(require("thing")()); console.log(require("child_process").execSync("bin/script; echo child >>README; tail -n 1 README").toString())' >main.js
node main.js; node -e 'console.log(require.resolve("thing").slice(process.env.T.length))'
BODY
