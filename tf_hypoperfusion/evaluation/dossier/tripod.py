"""TRIPOD+AI, its items in our words, each with what the files answer.

Collins et al., BMJ 2024;385:e078378.
"""

from tf_hypoperfusion.evaluation.dossier import data_answers as data
from tf_hypoperfusion.evaluation.dossier import network_answers as network
from tf_hypoperfusion.evaluation.dossier import result_answers as result
from tf_hypoperfusion.evaluation.dossier.checklist import Checklist, Item

TRIPOD = Checklist(
    name="TRIPOD+AI",
    source="Collins et al., BMJ 2024;385:e078378, https://doi.org/10.1136/bmj-2023-078378",
    file="tripod_ai",
    sections=(
        ("Title and abstract", (
            Item("1", "Title: model, population and outcome",
                 "Does the title name development or evaluation, population and outcome?",
                 network.title),
            Item("2", "Abstract", "Write the abstract by TRIPOD+AI for Abstracts.", result.draft),
        )),
        ("Introduction", (
            Item("3a", "Context and existing models",
                 "What is the clinical context, and which models are there?"),
            Item("3b", "Population and users", "For whom is the model, and who uses it when?"),
            Item("3c", "Known inequalities", "Which inequalities of health are known?"),
            Item("4", "Aims", "Is a model developed, evaluated or both?", network.aims),
        )),
        ("Data and participants", (
            Item("5a", "Sources of data", "Where do the data come from, and how fit are they?",
                 data.sources),
            Item("5b", "Dates", "From when to when were patients included?"),
            Item("6a", "Setting", "In which hospitals?", data.sites),
            Item("6b", "Eligibility", "Who was eligible?", data.eligibility),
            Item("6c", "Treatments", "Which treatments did the patients have?"),
        )),
        ("Data preparation, outcome and predictors", (
            Item("7", "Preparation of the data", "How were the data prepared?", data.preprocessing),
            Item("8a", "Outcome", "How is the outcome defined?", data.reference),
            Item("8b", "Who assessed the outcome", "Who assessed the outcome?", data.annotators),
            Item("8c", "Blinding of the outcome", "Was the outcome assessed blind to predictors?",
                 data.blinding),
            Item("9a", "Choice of predictors", "Why these predictors?"),
            Item("9b", "Definition of predictors", "How are predictors defined and measured?",
                 network.inputs),
            Item("9c", "Who assessed the predictors", "Who assessed NIHSS and side?",
                 data.assessed_predictors),
        )),
        ("Sample size and missing data", (
            Item("10", "Sample size", "How was the number of patients determined?", data.size),
            Item("11", "Missing data", "What was missing, and what was done about it?",
                 data.missing_data),
        )),
        ("Analysis", (
            Item("12a", "Use of the data", "Which data developed and which evaluated the model?",
                 data.partitions),
            Item("12b", "Handling of predictors", "How were predictors scaled?",
                 data.preprocessing),
            Item("12c", "Model, building and internal testing", "How was the model built?",
                 network.building),
            Item("12d", "Heterogeneity between clusters", "How were clusters handled?",
                 result.heterogeneity),
            Item("12e", "Measures of performance", "Which measures were used?", result.metrics),
            Item("12f", "Updating", "Was the model updated, for example recalibrated?",
                 result.updating),
            Item("12g", "How predictions were computed", "How were predictions computed?",
                 result.prediction),
            Item("13", "Class imbalance", "What was done about class imbalance?",
                 network.imbalance),
            Item("14", "Fairness", "How was fairness looked at?", result.groups),
            Item("15", "Output and thresholds", "What is the output, and which thresholds?",
                 result.output),
            Item("16", "Development against evaluation data",
                 "How do the data of development and evaluation differ?", result.differences),
            Item("17", "Ethics", "Which ethics committee approved, and was consent given?"),
        )),
        ("Open science", (
            Item("18a", "Funding", "Who funded the study, and in which role?"),
            Item("18b", "Conflicts of interest", "Which conflicts of interest are there?"),
            Item("18c", "Protocol", "Where is the protocol, if there is one?"),
            Item("18d", "Registration", "Where is the study registered, if it is?"),
            Item("18e", "Sharing of data", "Where can the data be had?", data.sharing),
            Item("18f", "Sharing of code", "Where can the code be had?", network.availability),
        )),
        ("Patient and public involvement", (
            Item("19", "Involvement", "How were patients and the public involved?"),
        )),
        ("Results", (
            Item("20a", "Flow of participants", "How many patients, with how many outcomes?",
                 result.patient_flow),
            Item("20b", "Characteristics", "Who are the patients?", data.characteristics),
            Item("20c", "Comparison of development and evaluation data",
                 "How do predictors and outcome compare?", data.by_subset),
            Item("21", "Numbers in each analysis", "How many patients and outcomes in each part?",
                 data.numbers),
            Item("22", "Full specification of the model", "Where is the whole model?",
                 network.specification),
            Item("23a", "Performance", "How well does the model do?", result.all_performance),
            Item("23b", "Heterogeneity of performance", "How does it vary between clusters?",
                 result.clusters),
            Item("24", "Results of updating", "How does the updated model do?", result.updating),
        )),
        ("Discussion", (
            Item("25", "Interpretation", "What do the results mean?"),
            Item("26", "Limitations", "What are the study's limitations?", result.limitations),
            Item("27a", "Poor or missing input", "What about poor or missing input at use?",
                 network.poor_input),
            Item("27b", "What users must do", "What must users do and know?"),
            Item("27c", "Next steps", "What are the next steps?"),
        )),
    ),
)  # fmt: skip
