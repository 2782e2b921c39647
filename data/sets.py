"""The table of all data sets: their files with checksums, their readers, their terms."""

from dataclasses import dataclass, field
from typing import Any

from .settings import (
    BabiData,
    BinarizedMNIST,
    BinaryData,
    BinaryDigits,
    Crohme,
    DrawnLines,
    EntityCloze,
    Fiction,
    FractionText,
    HubText,
    ImageData,
    ImageFile,
    ImageFolder,
    NoisyDigits,
    PairData,
    PythonDocs,
    PythonDocsCloze,
    PythonDocsPairs,
    PythonDocsSentences,
    SplitImages,
    TextData,
    TextFile,
)


@dataclass(frozen=True)
class DataSet:
    """Where a set's numbers come from. Another set is another entry of SETS, a reader and a yaml.

    Functions are named "module.function" and imported when needed, so that settings and table load in milliseconds.
    """

    settings: type
    read: str  # (settings, sources) -> arrays; the slow part, whose result is cached
    files: dict[str, str] = field(default_factory=dict)  # published files: path below data.root -> sha256 of content
    address: str = ""  # where data.fetch has them from: with {name} for a file's, or of an archive that holds all files
    get: str = ""  # how to get them by hand
    sources: str = ""  # (settings) -> sources, where nobody published hashes
    units: tuple[str, ...] = ()  # what a text's symbol may be
    terms: str = ""  # licence, as far as known; as in data/README.md
    handed_on: bool = True  # False: no piece of it may be given to others, and a list of its words is one
    version: int = 1  # of the preparation: a change of numbers is a new version

    def way(self, name: str) -> str:
        """Return in words how to get the files of the set, which is called `name`."""
        return f"run python -m data.fetch {name}, or {self.get}" if self.address else self.get


PTB: dict[str, Any] = {
    "files": {
        "ptb/ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
        "ptb/ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
        "ptb/ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
    },
    "terms": "Wall Street Journal text, LDC copyright; research only",
    "handed_on": False,
    "get": "unpack simple-examples/data/ptb.{train,valid,test}.txt of "
    "http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz into ptb/ below data.root",
}

WIKITEXT2: dict[str, Any] = {
    "files": {
        "wikitext-2/train.txt": "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
        "wikitext-2/valid.txt": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
        "wikitext-2/test.txt": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
    },
    "address": "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2/{name}",
    "get": "put {train,valid,test}.txt of https://github.com/pytorch/examples/tree/main/word_language_model/"
    "data/wikitext-2 into wikitext-2/ below data.root",
    "terms": "Wikipedia, CC BY-SA",
}

BINARIZED_MNIST: dict[str, Any] = {
    "files": {  # of the official text; it may lie there packed as .amat.xz
        "binarized_mnist/binarized_mnist_train.amat": (
            "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"
        ),
        "binarized_mnist/binarized_mnist_valid.amat": (
            "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"
        ),
        "binarized_mnist/binarized_mnist_test.amat": (
            "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"
        ),
    },
    "address": "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/{name}",
    "get": "put binarized_mnist_{train,valid,test}.amat of "
    "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/ into binarized_mnist/ below data.root",
    "terms": "none stated; derived from MNIST",
}

MULTI30K: dict[str, Any] = {
    "terms": "derived from Flickr30K; research and education without commercial use",
    "handed_on": False,
}

SETS: dict[str, DataSet] = {
    "python_docs": DataSet(
        PythonDocs,
        "text.python_docs",
        sources="text.python_docs_sources",
        terms="Python licence (PSF)",
        units=("char", "word"),
    ),
    "ptb_char": DataSet(TextData, "text.ptb_char", units=("char",), **PTB),
    "ptb_word": DataSet(TextData, "text.published_words", units=("word",), **PTB),
    "wikitext2": DataSet(TextData, "text.published_words", units=("word",), **WIKITEXT2),
    "tinyshakespeare": DataSet(
        FractionText,
        "text.whole_text",
        files={"tinyshakespeare/input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"},
        address="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/{name}",
        get="put https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt "
        "into tinyshakespeare/ below data.root",
        units=("char", "word"),
        terms="public domain",
    ),
    "text_file": DataSet(
        TextFile, "text.whole_text", sources="text.text_file_sources", units=("char", "word"), terms="yours"
    ),
    "hf_text": DataSet(
        HubText, "hub.read", sources="hub.sources", units=("char", "word"), terms="see its card", version=2
    ),
    "binarized_mnist": DataSet(BinarizedMNIST, "text.binarized_mnist", units=("pixel",), **BINARIZED_MNIST),
    "binary_mnist": DataSet(BinaryData, "binary.mnist", **BINARIZED_MNIST),
    "binary_digits": DataSet(BinaryDigits, "binary.digits", sources="images.digits_sources", terms="CC BY 4.0 (UCI)"),
    "crohme": DataSet(
        Crohme,
        "strokes.crohme",
        files={
            "crohme/crohme_stroke3.flat.npz": "180c55f74c2f68670ba728213efc15ebe410d09e9d0a5e1e5ef9026ba1d8b684",
            "crohme/crohme_index.tsv.gz": "9e57d959288680f41695ebd73faad47353b21e5afda20f7e850d5297953da472",
        },
        get="make crohme_stroke3.flat.npz and crohme_index.tsv.gz of the InkML files in CROHME_labeled_2016 of "
        "https://github.com/vndee/offline-crohme as data/README.md says, and put them into crohme/ below data.root",
        terms="CC BY-NC-SA 3.0",
    ),
    "drawn_lines": DataSet(
        DrawnLines, "strokes.drawn_lines", sources="text.python_docs_sources", terms="Python licence (PSF)"
    ),
    "wikitext2_cloze": DataSet(EntityCloze, "cloze.wikitext2", **WIKITEXT2),
    "python_docs_cloze": DataSet(
        PythonDocsCloze, "cloze.python_docs", sources="text.python_docs_sources", terms="Python licence (PSF)"
    ),
    "babi": DataSet(
        BabiData,
        "cloze.babi",
        files={  # tasks 1 and 2; they may lie there packed as .txt.gz
            "babi/en-10k/qa1_single-supporting-fact_train.txt": (
                "749ea9f7c99070feb2d88c975a254417a0dcc8274add4435ae5ae24c7afc7e9d"
            ),
            "babi/en-10k/qa1_single-supporting-fact_test.txt": (
                "55acf66cef2f6d798e2aa1d056e1ec8f24e910ea9215b639450574321132959b"
            ),
            "babi/en-10k/qa2_two-supporting-facts_train.txt": (
                "d4074c0c5d54f70ce2f538056ce2b6ef6a313da336da4245f1a24f1298e37ef3"
            ),
            "babi/en-10k/qa2_two-supporting-facts_test.txt": (
                "eff93fb9cd81ba02eb765772cf7cc269769ed44ec71cbbbc19cfb16ee5eba0f6"
            ),
        },
        get="put the folder en-10k of http://www.thespermwhale.com/jaseweston/babi/tasks_1-20_v1-2.tar.gz into babi/ "
        "below data.root",
        terms="CC BY 3.0, Facebook",
    ),
    "digits": DataSet(
        SplitImages,
        "images.digits",
        sources="images.digits_sources",
        terms="CC BY 4.0 (UCI)",
    ),
    "noisy_digits": DataSet(
        NoisyDigits,
        "images.digits",
        sources="images.digits_sources",
        terms="CC BY 4.0 (UCI)",
    ),
    "mnist": DataSet(
        ImageData,
        "images.mnist",
        files={
            "MNIST/raw/train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "MNIST/raw/train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "MNIST/raw/t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "MNIST/raw/t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        address="https://ossci-datasets.s3.amazonaws.com/mnist/{name}",
        get="put the four .gz files of https://ossci-datasets.s3.amazonaws.com/mnist/ (e.g. "
        "train-images-idx3-ubyte.gz) into MNIST/raw/ below data.root",
        terms="commonly stated as CC BY-SA 3.0",
    ),
    "cifar10": DataSet(
        ImageData,
        "images.cifar10",
        files={
            "cifar-10-batches-py/data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
            "cifar-10-batches-py/data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
            "cifar-10-batches-py/data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
            "cifar-10-batches-py/data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
            "cifar-10-batches-py/data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
            "cifar-10-batches-py/test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
            "cifar-10-batches-py/batches.meta": "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
        },
        address="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        get="unpack https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz below data.root",
        terms="none stated; cite the report",
    ),
    "image_folder": DataSet(ImageFolder, "own_images.read_folder", sources="own_images.folder_sources", terms="yours"),
    "image_file": DataSet(ImageFile, "own_images.read_file", sources="own_images.file_sources", terms="yours"),
    "multi30k_captions": DataSet(
        PairData,
        "pairs.multi30k_captions",
        files={
            "multi30k/task2.train.lc.norm.tok.1.en.gz": (
                "f5ec5ed546b459b5e38d97eb25a91b7991aa1c9c380fe68f9dd1319353972017"
            ),
            "multi30k/task2.train.lc.norm.tok.2.en.gz": (
                "c8e546d3018581eb29c54146ab24ad69654251962b7d4a4695c6d37f6d674afd"
            ),
            "multi30k/task2.train.lc.norm.tok.3.en.gz": (
                "4cbd68ab9826b04e47f59fa0fdd2081c9ada8c6309ef6f79f336b22bb527ac95"
            ),
            "multi30k/task2.train.lc.norm.tok.4.en.gz": (
                "7054c293fd8ccb0a4e5a631f3499aef861325939d0f656156ac9247811123f99"
            ),
            "multi30k/task2.train.lc.norm.tok.5.en.gz": (
                "570e25e800e826a881051718b370d51912db096879e2ad4c1bb2c3787c56d706"
            ),
            "multi30k/task2.val.lc.norm.tok.1.en.gz": (
                "b8d3e92eca2164ae3d200b4d94d8a8f68d9cae7b8e70e520f6953e44c88d21cf"
            ),
            "multi30k/task2.val.lc.norm.tok.2.en.gz": (
                "ab00a94176d4daebaa051d6f1e44f5d89abfefc0f78a320b4905b4cd2c94876e"
            ),
            "multi30k/task2.val.lc.norm.tok.3.en.gz": (
                "89045aa7cc614763eb84b6d6255c7cc24a20b54f625d1ef960919de937227adf"
            ),
            "multi30k/task2.val.lc.norm.tok.4.en.gz": (
                "fdfe59ab0e5d9e9eb518d87b7b05ae25ecd22463f5bdd8a09967b53066c77f16"
            ),
            "multi30k/task2.val.lc.norm.tok.5.en.gz": (
                "82353b77d599b8784faf38f4e938560c0aca64ad36d528d0059adb530e653ed2"
            ),
            "multi30k/task2.test_2016.lc.norm.tok.1.en.gz": (
                "902d684b445aa815dabbcf344899d2a564a5aedf740d59de5a8df53ad5e61e1c"
            ),
            "multi30k/task2.test_2016.lc.norm.tok.2.en.gz": (
                "0a34b790a3ceb16dae68a35b92dba12564206adf4b1cda48dad619846f37acaa"
            ),
            "multi30k/task2.test_2016.lc.norm.tok.3.en.gz": (
                "d6cf1dae43ecbb20127e7d1d82c7b1a5f7df189247dec9e685129c908ce8f6af"
            ),
            "multi30k/task2.test_2016.lc.norm.tok.4.en.gz": (
                "0aabbda5b3f5b1bcfbe13bccefb6259a031867698222ffbc47f776abfd99b315"
            ),
            "multi30k/task2.test_2016.lc.norm.tok.5.en.gz": (
                "40c86b7c17fa7f65efc1a71698f297c7da122ad7049bb500bff6f1c907c38b83"
            ),
        },
        get="put task2.{train,val,test_2016}.lc.norm.tok.{1,2,3,4,5}.en.gz of "
        "https://github.com/multi30k/dataset/tree/master/data/task2/tok into multi30k/ below data.root",
        **MULTI30K,
    ),
    "multi30k_translation": DataSet(
        PairData,
        "pairs.multi30k_translation",
        files={
            "multi30k/task1.train.lc.norm.tok.en.gz": (
                "79d990dd71713faec0e3165cbd3b60acdf6fe11cab2e37a28f374c6bdbb297ec"
            ),
            "multi30k/task1.train.lc.norm.tok.de.gz": (
                "7e3392f03c0fe978165d22fb5eaf0d0b9b1d9c413283b5193f02d4cb27e50797"
            ),
            "multi30k/task1.val.lc.norm.tok.en.gz": "2c7e5e9cf54ba0dff0cc4b84836d5a583f80ecaaab90b37a123d1376306215cd",
            "multi30k/task1.val.lc.norm.tok.de.gz": "006ad58fd6a2ad6502094160fe5273d93abf34a207967fdc69eafd7558b5ef39",
            "multi30k/task1.test_2016_flickr.lc.norm.tok.en.gz": (
                "b95df925929cb222d0cf733f153bcbfba0f00180c85fd61dd5c4fb27f29ee394"
            ),
            "multi30k/task1.test_2016_flickr.lc.norm.tok.de.gz": (
                "2628844bbb7783afa0ba8a9927f174aafeee715871aa8deed3af2c4d0b71a658"
            ),
        },
        get="put task1.{train,val,test_2016_flickr}.lc.norm.tok.{en,de}.gz of "
        "https://github.com/multi30k/dataset/tree/master/data/task1/tok into multi30k/ below data.root",
        **MULTI30K,
    ),
    "coco_captions": DataSet(
        PairData,
        "pairs.coco_captions",
        files={
            "coco_captions/captions_val2017.json.gz": (
                "d560341c82a88e05f802db8c13e810e5fc4dface2dca1eb6671d0815c74beb91"
            ),
        },
        get="pack captions_val2017.json of http://images.cocodataset.org/annotations/annotations_trainval2017.zip with "
        "gzip into coco_captions/ below data.root",
        terms="CC BY 4.0 (COCO Consortium)",
    ),
    "python_docs_pairs": DataSet(
        PythonDocsPairs, "pairs.python_docs", sources="text.python_docs_sources", terms="Python licence (PSF)"
    ),
    "fiction": DataSet(
        Fiction,
        "sentences.fiction",
        files={  # by their numbers at Project Gutenberg; they may lie there packed as .txt.gz
            "fiction/pg36.txt": "734b8a1d51077e36767c46578517fd4826c024a1cbd05ebf1aca92aadbb7ad56",
            "fiction/pg45.txt": "de84735904a9023e2a2447dec5e30e9ea4e5d92d6e23f38c6e07f3df9ce0191a",
            "fiction/pg47.txt": "e75c8e17aae1e7246de842b973625b5e10e91188fa45778ef58c4a2664b9ff05",
            "fiction/pg55.txt": "18274f31ae11aea07ea9b4f707998636c6f75d784c60d7e8fea0b4d5c2d77af6",
            "fiction/pg60.txt": "17acac41e67b486fe0e646f7b4e470e204571c8d5a6fbc81b56f801c819f6162",
            "fiction/pg62.txt": "01c12c7a6bf0fba45d33c79f77a2a481d52d0eb5674819ce0cf5e68645a56d8c",
            "fiction/pg78.txt": "854d51287b1de7db6efcf3bfe932cd171e420bfdb48f738e18afb27be1cbf481",
            "fiction/pg81.txt": "5119498f04ee2965e008bd411a497a0693497a56d59d4764e57e4ee1f9d8566f",
            "fiction/pg95.txt": "262d60db1fe905a8678ff65a71c4af77995455af963d9f30b44493dd4f93ccd4",
            "fiction/pg113.txt": "5d5bd30cb79d2f9302d99f822cc342f268dcd327d800e0ba3790596b5ef09648",
            "fiction/pg120.txt": "6c37a18a886b4c12eaf4e5ff301813186616c7ee899c268db94eddd433027da7",
            "fiction/pg139.txt": "f6b39bd6c79270d117e0a4e9a8814628e4185d356a0a6d6bd7116e74c389b7d5",
            "fiction/pg155.txt": "47fd003249cf6dd833476d089cccddc7997349751dfe0183809c18a4baa2128f",
            "fiction/pg204.txt": "7a4b3b346404746fd5236047c493a7a2ea6fa9b31c5d6d78f7dff6f5bf669c94",
            "fiction/pg345.txt": "c802711470ddb2aaca81432fc101ed29c154e7c3d32df4172478695c33f68eae",
            "fiction/pg514.txt": "b20d98130841548c2137476e18fb1fe3bc7d666202985cafa09b5e02e54f7d7f",
            "fiction/pg558.txt": "3311ea0e2c85065d81299be5246c186696362aaa0cd4fa314166888cfed3857c",
            "fiction/pg910.txt": "cb8f3e4cfb99e34ad9741ebae21e177bf5fe5edc1c1342dcc5dea2bcdf53f3cb",
            "fiction/pg1260.txt": "bc74b04ec70c9283323f5043f3305c4b08e70650a96ca5a9e1c5e5c5b4c0aa9a",
            "fiction/pg1342.txt": "441e778a4297bfc944dc254810e8ded3134cfb0e36d73eef6bb312b4ffd74d6a",
            "fiction/pg1400.txt": "64cd8797f6439d21be03154b8e3e97c4fe8c0df6f032a98871a5554c0621c500",
            "fiction/pg1450.txt": "64f91254b7165edc1e11886084df996965ef08c3a2d778fb5c6c72f54ff248bd",
            "fiction/pg1661.txt": "2a0ce5568625a304f54fbb6bfdeeadf527a1437254b5f0e06b5a9e233d4784a2",
            "fiction/pg1874.txt": "1c20d4df2affd9b230c9fcbb9fe10cfac825ba2585a8877d748c700425e0ff5c",
        },
        get="put NUMBER.txt of each repository https://github.com/GITenberg/TITLE_NUMBER, as "
        "The-War-of-the-Worlds_36, into fiction/ below data.root as pgNUMBER.txt",
        terms="public domain (Project Gutenberg)",
    ),
    "python_docs_sentences": DataSet(
        PythonDocsSentences, "sentences.python_docs", sources="text.python_docs_sources", terms="Python licence (PSF)"
    ),
}
